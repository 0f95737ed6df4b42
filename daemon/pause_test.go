package daemon

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// ticking sends a change each second, numbered by the second from its position on.
type ticking struct {
	script
	changeAt func(n int) bson.Raw
}

func (s *ticking) Run(ctx context.Context, from watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	at, _ := resumetoken.ClusterTime(from.Token)
	for n := int(at.T) + 1; ; n++ {
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := emit(ctx, chunk(s.changeAt(n))); err != nil {
			return err
		}
	}
}

func tick(t *testing.T) *ticking {
	return &ticking{script: script{fingerprint: "f"}, changeAt: func(n int) bson.Raw { return consent(t, n) }}
}

func TestPauseHoldsTheStreamAndItsNextOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
		first := stream(tick(t), nil, k, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- first.Run(ctx) }()
		time.Sleep(3500 * time.Millisecond) //nolint:forbidigo // the bubble's clock.
		first.Pause()
		synctest.Wait()
		if p := first.Progress(); p.State != Paused {
			t.Fatalf("state %s", p.State)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
		if got, want := k.ids(), []string{"c2", "c3", "c4"}; !slices.Equal(got, want) || !k.position.Paused {
			t.Errorf("events %v, want %v; stored as paused: %v", got, want, k.position.Paused)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}

		// The next owner keeps the pause until it is told otherwise.
		second := stream(tick(t), nil, k, nil)
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		go func() { done <- second.Run(ctx) }()
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
		if p := second.Progress(); p.State != Paused || len(k.ids()) != 3 {
			t.Fatalf("state %s, events %v", p.State, k.ids())
		}
		second.Resume()
		time.Sleep(2500 * time.Millisecond) //nolint:forbidigo // the bubble's clock.
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, want := k.ids(), []string{"c2", "c3", "c4", "c5", "c6"}; !slices.Equal(got, want) || k.position.Paused {
			t.Errorf("events %v, want %v; stored as paused: %v", got, want, k.position.Paused)
		}
	})
}

// A pause that cannot be stored is not one yet: the stream tries again.
func TestPauseWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}, failures: 5}
		s := stream(tick(t), nil, k, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // the bubble's clock.
		s.Pause()
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
		if p := s.Progress(); p.State != Paused || !k.position.Paused {
			t.Errorf("state %s, stored as paused: %v", p.State, k.position.Paused)
		}
		s.Resume()
		s.Pause()
		s.Resume()
		time.Sleep(90 * time.Second) //nolint:forbidigo // the bubble's clock.
		if p := s.Progress(); p.State != Running || k.position.Paused {
			t.Errorf("state %s after resume, stored as paused: %v", p.State, k.position.Paused)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		ids := k.ids()
		for i, id := range ids {
			if want := "c" + strconv.Itoa(i+2); id != want {
				t.Fatalf("event %d is %s, want %s", i, id, want)
			}
		}
		if len(ids) < 10 {
			t.Errorf("only %v", ids)
		}
	})
}
