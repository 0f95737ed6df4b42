package publisher

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// A broker is killed in the middle of a transaction and started again. Whatever
// each Commit reports, a publisher that goes on from the acquired position has
// every event committed once.
func TestTransactionalThroughARestartOfTheBroker(t *testing.T) {
	t.Parallel() // mostly waiting
	server := services.KafkaForTest(t, services.KafkaOptions{
		NeedControl: true,
		// Timed-out transactions are ended at once, not every 10 s.
		Properties: map[string]string{"transaction.abort.timed.out.transaction.cleanup.interval.ms": "100"},
	})
	opts, err := ClientOptions(Connection{Brokers: server.Brokers}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	req := requirements()
	req.Create = true
	if _, err := CheckTopics(t.Context(), opts, req); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	kill := make(map[string]bool) // at which points the broker is still to be killed
	restarted := make(chan error, 1)
	p := newTransactional(t, opts, "one", func(o *resumetoken.KafkaOptions) {
		o.TransactionTimeout = time.Second // shorter than the outage
		o.Observe = func(point string) {
			if !kill[point] {
				return
			}
			delete(kill, point)
			if err := server.Kill(ctx); err != nil {
				t.Error(err)
			}
			go func() { restarted <- server.Start(ctx) }()
		}
	})
	_, err = p.Acquire(ctx)
	mustBeNew(t, err)

	const size = 20
	next := uint32(1)
	publish := func(count int) {
		t.Helper()
		for end := next + uint32(count); next < end; {
			names := make([]string, size)
			for i := range names {
				names[i] = fmt.Sprintf("%d/%d", next, i)
			}
			err := p.Commit(ctx, batch(t, next, names...))
			if err == nil {
				next++
				continue
			}
			t.Logf("batch %d: %v", next, err)
			if errors.Is(err, resumetoken.ErrFenced) {
				t.Fatal("fenced without another process")
			}
			at := acquireAgain(ctx, t, p)
			if at != next && at != next-1 {
				t.Fatalf("after batch %d the position is %d", next, at)
			}
			next = at + 1
		}
	}
	publish(10)
	for _, point := range []string{"before_begin", "after_flush"} {
		kill[point] = true
		publish(10)
		if err := <-restarted; err != nil {
			t.Fatal(err)
		}
	}
	seen := keys(committed(t, opts, eventTopic))
	if want := int(next-1) * size; len(seen) != want {
		t.Errorf("%d events, want %d", len(seen), want)
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s was committed %d times", key, n)
		}
	}
}

// acquireAgain tries until the broker is back, as the daemon does.
func acquireAgain(ctx context.Context, t *testing.T, p *Transactional) uint32 {
	t.Helper()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		at, err := p.Acquire(ctx)
		if err == nil || errors.Is(err, resumetoken.ErrNone) {
			return at.ClusterTime.T
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("the broker is back and Acquire fails: %v", err)
		}
	}
}
