package faults_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// takingPoints are passed once in a life, when the stream is taken over.
func takingPoints() []string { return []string{"after_fence", "after_claim", "after_read"} }

// transactionPoints are passed in every transaction: with exactly once it holds
// events and position, else the position only.
func transactionPoints() []string {
	return []string{"before_begin", "after_begin", "after_produce", "after_position", "after_flush", "before_commit", "after_commit"}
}

// batchPoints are passed in every batch that is published at least once.
func batchPoints() []string {
	return []string{"before_events", "after_events", "before_save", "after_save"}
}

const (
	// crashChanges are written in all by the long form, crashChangesShort in CI.
	crashChanges, crashChangesShort = 100_000, 4000
	// crashRounds is how often the long form kills at each point in each cell.
	crashRounds = 10
	// longestDelay bounds the time from a point to the kill.
	longestDelay = 4 * time.Millisecond
)

// TestCrashMatrix kills the daemon at each named point of a batch's way, in both
// delivery modes, on brokers of both versions of the transactions' protocol. It has the events of
// every kind but those of windows, which TestDataChangesUnderCrashes (test/e2e) has.
func TestCrashMatrix(t *testing.T) {
	crashMatrix(t, func(t *testing.T) context.Context {
		t.Parallel()
		return long(t)
	}, crashChangesShort, 2)
}

// TestSoakCrashMatrix is TestCrashMatrix with 100,000 changes.
func TestSoakCrashMatrix(t *testing.T) {
	soakTime(t) // as long as it takes
	crashMatrix(t, (*testing.T).Context, crashChanges, crashRounds)
}

// crashMatrix runs all cells; begin gives each its context.
func crashMatrix(t *testing.T, begin func(*testing.T) context.Context, changes, rounds int) {
	modes := []func() mode{exactlyOnce, func() mode { return atLeastOnce("kafka") }}
	for version, kafka := range shared.kafka {
		for _, m := range modes {
			m := m()
			t.Run(fmt.Sprintf("%s_transactions_%d", m.name, version), func(t *testing.T) {
				ctx := begin(t)
				brokers := kafka.ForTest(t).Brokers
				if got := transactionVersion(ctx, t, brokers); got != version {
					t.Fatalf("the broker's transaction.version is %d, want %d", got, version)
				}
				site := harness.NewSite(t, ownMongoDB(t), brokers).WithResourceChange("Consent", "ExportStatus").WithPersonLink()
				i := install(t, m, site)
				i.crash(ctx, changes/(len(modes)*len(shared.kafka)), rounds)
			})
		}
	}
}

// crash kills the daemon at each of its points, in random order, while changes are
// written, and judges what a consumer has got.
func (i *installation) crash(ctx context.Context, changes, rounds int) {
	i.t.Helper()
	i.env["FHIR_CDC_REPLICAS"] = "none"            // a death is not waited for
	i.env["FHIR_CDC_CHECKPOINT_INTERVAL"] = "20ms" // the points of a save are passed often
	i.env["FHIR_CDC_FACTS_WAIT"] = "1m"            // a link whose history this machine writes late is no dead letter
	l := i.load(i.t, seed(i.t, 0), math.MaxInt)
	l.keys, l.everything, l.byHand = 200, true, fhirserver.New(l.client, fhirserver.Options{Databases: i.site.Databases})
	random := newRandom(l.seed)
	points := append(takingPoints(), transactionPoints()...)
	if !i.mode.once {
		points = append(points, batchPoints()...)
	}
	var order []string
	for range rounds {
		for _, p := range random.Perm(len(points)) {
			order = append(order, moment(points[p], random))
		}
	}
	if i.mode.once {
		// The first transaction of a life holds what was written at its beginning.
		order = append(order, "before_commit,1,0s", "before_commit,1,0s")
	}
	share := changes/len(order) + 1
	g := newGate(share)
	l.gate = g.wait
	await := l.begin(ctx, i.t)
	lives := make([]life, len(order))
	for k, at := range order {
		g.raise((k + 1) * share)
		lives[k] = i.crashAt(ctx, at, func(creep int) { g.raise((k+1)*share + creep) })
	}
	i.start()
	for l.count() < changes { // the kills may have been faster than the writing
		if err := pass(ctx, askAgain); err != nil {
			i.t.Fatal(err)
		}
	}
	l.finish()
	g.raise(math.MaxInt) // one more of each writer
	await()
	_, open := i.account(ctx, lives, i.verify(ctx, l))
	i.hasEveryKind(events(i.site.Topics, l.written(), l.requested()))
	if i.mode.once && open == 0 {
		i.t.Error("no life left an open transaction: this run proves too little")
	}
}

// hasEveryKind makes sure that events of no kind are left out: a further kind needs its part in
// load, or if its events are of windows in TestDataChangesUnderCrashes.
func (i *installation) hasEveryKind(all []event) {
	i.t.Helper()
	for _, kind := range mapper.Kinds() {
		topic := i.env[kind.TopicVariable]
		if !kind.Windowed && !slices.ContainsFunc(all, func(e event) bool { return e.topic == topic }) {
			i.t.Errorf("the crash matrix has no event of the kind %s", kind.Name)
		}
	}
}

// moment is when a daemon is to kill itself: the point, the how manieth time that it comes
// there, and how long after.
func moment(point string, random *rand.Rand) string {
	times := 1 + random.IntN(3)
	for _, p := range takingPoints() {
		if p == point {
			times = 1
		}
	}
	var delay time.Duration
	if random.IntN(2) == 0 {
		delay = between(random, 0, longestDelay)
	}
	return fmt.Sprintf("%s,%d,%v", point, times, delay)
}

// crashAt is one life of a daemon that kills itself at a moment. creep lets a few
// more changes be written: a point is passed again only if there are some.
func (i *installation) crashAt(ctx context.Context, at string, creep func(int)) life {
	i.t.Helper()
	now := life{began: time.Now()}
	d := harness.Start(i.t, harness.Options{Env: harness.With(i.env, "FAULT_POINT", at), Tag: harness.FaultPoints})
	i.daemons = append(i.daemons, d)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-d.Done():
			if code, _ := d.Wait(ctx); code != -1 {
				i.t.Fatalf("at %s the daemon has ended by itself with exit code %d", at, code)
			}
			now.ended = time.Now()
			now.ready = d.WaitReady(ctx) == nil // it has ended: this only looks
			return now
		case <-ticker.C:
			creep(n)
		case <-ctx.Done():
			i.t.Fatalf("the daemon has not got to %s: %v", at, context.Cause(ctx))
		}
	}
}

// transactionVersion asks a broker which protocol of transactions it has.
func transactionVersion(ctx context.Context, t *testing.T, brokers []string) int {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "fhir-cdc-test", "1"
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		t.Fatalf("ask for the broker's features: %v", err)
	}
	for _, f := range response.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return int(f.MaxVersionLevel)
		}
	}
	return 0
}
