package faults_test

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// TestKill kills the daemon again and again while a server writes, and restarts it
// at once.
func TestKill(t *testing.T) {
	for _, m := range []mode{exactlyOnce(), atLeastOnce("kafka")} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			kill(long(t), t, m, scaled(20000, soakFactor), scaled(20, soakKills), 0)
		})
	}
	for _, m := range []mode{exactlyOnce().withFacts(), atLeastOnce("mongodb"), atLeastOnce("file")} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			kill(long(t), t, m, scaled(4000, soakFactor), scaled(8, soakKills), 0)
		})
	}
}

// TestSoakKill goes on killing for the time that `make soak` is given.
func TestSoakKill(t *testing.T) {
	limit := soakTime(t)
	for round, begin := 1, time.Now(); time.Since(begin) < limit && !t.Failed(); round++ {
		for _, m := range []mode{exactlyOnce(), atLeastOnce("kafka"), exactlyOnce().withFacts()} {
			t.Run(m.name, func(t *testing.T) { kill(t.Context(), t, m, 20000*soakFactor, 20*soakKills, round) })
		}
	}
}

// soakTime is for how long a soak goes on; without one the test is skipped.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(envSoak)
	if text == "" {
		t.Skipf("runs for as long as %s says", envSoak)
	}
	limit, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", envSoak, err)
	}
	return limit
}

func kill(ctx context.Context, t *testing.T, m mode, changes, kills, round int) {
	i := install(t, m, sharedSite(t))
	l := i.load(t, seed(t, round), changes)
	lives := i.live(ctx, l, kills, newRandom(l.seed), func(d *harness.Daemon) {
		if err := d.Kill(); err != nil {
			t.Fatal(err)
		}
		if code, _ := d.Wait(ctx); code != -1 {
			t.Fatalf("the daemon has ended by itself with exit code %d", code)
		}
	})
	busy, _ := i.account(ctx, lives, i.verify(ctx, l))
	i.enough(lives, busy)
}

// sharedSite is a site on the shared Kafka, with a MongoDB of the test's own.
func sharedSite(t *testing.T) harness.Site {
	t.Helper()
	mongoURI, brokers := ownMongoDB(t), sharedBrokers(t)
	return harness.NewSite(t, mongoURI, brokers)
}

// load is one that suits the installation's mode.
func (i *installation) load(t *testing.T, seed uint64, changes int) *load {
	t.Helper()
	l := newLoad(connect(t, i.site.MongoURI), i.site.Databases, seed, changes, 1500)
	if i.mode.facts {
		l.withHistory(i.site.Databases)
		l.everything = true
	}
	return l
}

// TestSIGTERMRun tells the daemon to stop again and again: all that it has read is
// published, so that nothing comes twice in either mode.
func TestSIGTERMRun(t *testing.T) {
	for _, m := range []mode{exactlyOnce(), atLeastOnce("kafka")} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			ctx := long(t)
			i := install(t, m, sharedSite(t))
			l := i.load(t, seed(t, 0), scaled(10000, soakFactor))
			var slowest time.Duration
			lives := i.live(ctx, l, scaled(10, soakKills), newRandom(l.seed), func(d *harness.Daemon) {
				// Before its first word it may not have got as far as to know the signal.
				if err := d.WaitForLog(ctx, "fhir-cdc starts"); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				if err := d.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				if code, err := d.Wait(ctx); err != nil || code != 0 {
					t.Fatalf("stopped with exit code %d (%v), want 0", code, err)
				}
				slowest = max(slowest, time.Since(begin))
			})
			i.mode.once = true
			busy, _ := i.account(ctx, lives, i.verify(ctx, l))
			i.enough(lives, busy)
			t.Logf("the slowest stop took %v", slowest.Round(time.Millisecond))
		})
	}
}
