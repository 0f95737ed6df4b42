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

// A broker is killed and started again while batches are published. Whatever
// each Commit reports, a publisher that goes on from the acquired position has
// every event committed once, in order.
func TestTransactionalThroughARestartOfTheBroker(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker twice")
	}
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
	// The timeout is shorter than the outage, so the batch that it meets fails.
	p := newTransactional(t, opts, "one", time.Second)
	at, err := p.Acquire(ctx)
	mustBeNew(t, err)

	const before, after, size = 50, 50, 20
	restarted := make(chan error, 1)
	begun := false
	end := uint32(0) // the batch that is the last, once the broker is back
	for next := at.ClusterTime.T + 1; end == 0 || next <= end; {
		select {
		case err := <-restarted:
			if err != nil {
				t.Fatal(err)
			}
			end = next + after
		default:
		}
		if next == before && !begun {
			begun = true
			go func() {
				if err := server.Kill(ctx); err != nil {
					restarted <- err
					return
				}
				restarted <- server.Start(ctx)
			}()
		}
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
		for {
			at, err = p.Acquire(ctx)
			if err == nil || errors.Is(err, resumetoken.ErrNone) {
				break
			}
			t.Logf("acquire: %v", err)
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
		}
		if at.ClusterTime.T != next && at.ClusterTime.T != next-1 {
			t.Fatalf("after batch %d the position is %d", next, at.ClusterTime.T)
		}
		next = at.ClusterTime.T + 1
	}
	seen := keys(committed(t, opts, eventTopic))
	if want := int(end) * size; len(seen) != want {
		t.Errorf("%d events, want %d", len(seen), want)
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s was committed %d times", key, n)
		}
	}
}
