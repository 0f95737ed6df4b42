package faults_test

import (
	"context"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// termTime is how long a member is the primary before it has to step down.
const termTime = 10 * time.Second

// TestElections has the primary of a set of three step down every ten seconds, and
// at the end killed, while changes are written.
func TestElections(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	const stepDowns = 2
	elections(ctx, t, func(n int, _ time.Time) bool { return n < stepDowns })
}

// TestSoakElections goes on for the time that `make soak` is given.
func TestSoakElections(t *testing.T) {
	limit := soakTime(t)
	elections(t.Context(), t, func(_ int, begin time.Time) bool { return time.Since(begin) < limit })
}

func elections(ctx context.Context, t *testing.T, more func(n int, begin time.Time) bool) {
	set := services.ReplicaSetForTest(t, 3, services.MongoDBOptions{CacheGB: 0.25})
	brokers := sharedBrokers(t)
	// Its position is in the set as well.
	p := startPair(ctx, t, set.URI, brokers, exactlyOnce(), atLeastOnce("mongodb"))
	alive, cancel := whileAlive(ctx, p.daemons()...)
	defer cancel()
	p.caughtUp(alive)
	begin := time.Now()
	n := 0
	for ; more(n, begin); n++ {
		before, stepped := p.load.count(), time.Now()
		if err := set.StepDown(alive); err != nil {
			t.Fatal(err)
		}
		if err := pass(alive, time.Until(stepped.Add(termTime))); err != nil {
			t.Fatal(err)
		}
		t.Logf("term %d: %d changes", n+1, p.load.count()-before)
		p.caughtUp(alive)
	}
	primary, err := set.Primary(alive)
	if err != nil {
		t.Fatal(err)
	}
	if err := primary.Kill(alive); err != nil {
		t.Fatal(err)
	}
	before := p.load.count()
	if err := primary.Start(alive); err != nil {
		t.Fatal(err)
	}
	for p.load.count() == before { // another member is elected
		if err := pass(alive, askAgain); err != nil {
			t.Fatal(err)
		}
	}
	p.caughtUp(alive)
	if err := context.Cause(alive); err != nil {
		t.Fatal(err)
	}
	p.finish(ctx)
	t.Logf("%d step-downs", n)
}
