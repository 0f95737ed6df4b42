package faults_test

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// TestKillWhileMergesWait ends the daemon at random moments while the changes of $merge
// calls wait for their history and those of others go ahead: nothing is lost, nothing
// comes twice, and the events of each resource come in order.
func TestKillWhileMergesWait(t *testing.T) {
	for _, m := range []mode{exactlyOnce().withFacts(), atLeastOnce("mongodb").withFacts()} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			killWhileMergesWait(long(t), t, m, scaled(800, soakFactor), scaled(6, soakKills))
		})
	}
}

func killWhileMergesWait(ctx context.Context, t *testing.T, m mode, changes, kills int) {
	i := install(t, m, sharedSite(t))
	l := i.load(t, seed(t, 0), changes)
	l.rate = 200
	random := newRandom(l.seed)
	merging, stop := context.WithCancel(ctx)
	defer stop()
	merged := make(chan error, 1)
	go func() { merged <- l.merge(merging, i.site.Databases) }()
	lives := i.live(ctx, l, kills, newRandom(l.seed), func(d *harness.Daemon) {
		signal := syscall.SIGKILL
		if random.IntN(4) == 0 {
			signal = syscall.SIGTERM
		}
		if err := d.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if code, err := d.Wait(ctx); err != nil || code > 0 {
			t.Fatalf("the daemon has ended with exit code %d (%v)", code, err)
		}
	})
	stop()
	if err := <-merged; err != nil {
		t.Fatal(err)
	}
	busy, _ := i.account(ctx, lives, i.verify(ctx, l))
	i.enough(lives, busy)
}

// merge makes one $merge after the other until ctx ends: of 10 to 150 resources, some of
// which have another version before the history of their first one comes.
func (l *load) merge(ctx context.Context, databases fhirserver.Databases) error {
	s := fhirserver.New(l.client, fhirserver.Options{Databases: databases})
	random := newRandom(l.seed + 1)
	for n := 0; ctx.Err() == nil; n++ {
		// Once it has begun it is written to its end, so that all of it is known.
		merge, err := s.Merge(context.WithoutCancel(ctx), fmt.Sprintf("merge-%d", n), 10+random.IntN(140))
		if err != nil {
			return err
		}
		again, err := s.ReplaceConsent(context.WithoutCancel(ctx), merge.Resources()[random.IntN(10)])
		if err != nil {
			return err
		}
		l.mu.Lock()
		for _, r := range append(slices.Clone(merge.Resources()), again) {
			l.versions = append(l.versions, version{Resource: r, history: historyLate})
		}
		l.mu.Unlock()
		if err := merge.History(context.WithoutCancel(ctx), between(random, 0, 3*time.Second)); err != nil {
			return err
		}
	}
	return nil
}
