package daemon

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// ticking sends a change each second, numbered by the second from its position on.
type ticking struct {
	script
	changeAt func(n int) bson.Raw
}

func (s *ticking) Run(ctx context.Context, from watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	at, _ := tokens.ClusterTime(from.Token)
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

// scanning is a repair of a change each second, up to the second of a token. Its state is
// how many it has published.
type scanning struct{ until int }

func (r scanning) Repair(ctx context.Context, p Publisher, position resumetoken.Position, _ func(RepairProgress)) (resumetoken.Position, error) {
	var state resumetoken.Repair
	if position.Repair != nil {
		state = *position.Repair
	}
	for at, _ := tokens.ClusterTime(position.Token); int(at.T)+int(state.Events) < r.until; {
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return position, ctx.Err()
		case <-timer.C:
		}
		state.Events++
		saved := state
		position.Repair = &saved
		key := "c" + strconv.Itoa(int(at.T)+int(state.Events))
		if err := p.Commit(ctx, &publisher.Batch{Position: position, Events: []mapper.Event{{Key: []byte(key)}}}); err != nil {
			return position, err
		}
	}
	position.Token, position.Repair = token(r.until), nil
	return position, p.Commit(ctx, &publisher.Batch{Position: position})
}

// A repair is paused where it is, for its next owner too, and goes on from there.
func TestPauseHoldsARepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f", Repair: &resumetoken.Repair{}}}
		run := func() (s *Stream, end func()) {
			s = stream(tick(t), nil, k, func(o *Options, _ *Facts) { o.Repairer = scanning{until: 7} })
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			return s, func() {
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
		}
		first, end := run()
		time.Sleep(3500 * time.Millisecond) //nolint:forbidigo // the bubble's clock.
		if p := first.Progress(); p.State != Repairing {
			t.Fatalf("state %s", p.State)
		}
		first.Pause()
		synctest.Wait()
		if p := first.Progress(); p.State != Paused || !k.position.Paused || k.position.Repair == nil {
			t.Fatalf("state %s, stored as paused: %v, repair %v", p.State, k.position.Paused, k.position.Repair)
		}
		end()

		second, end := run()
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
		if p := second.Progress(); p.State != Paused || len(k.ids()) != 3 {
			t.Fatalf("state %s, events %v", p.State, k.ids())
		}
		second.Resume()
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock.
		if p := second.Progress(); p.State != Repairing {
			t.Errorf("state %s after resume", p.State)
		}
		time.Sleep(4500 * time.Millisecond) //nolint:forbidigo // the bubble's clock.
		end()
		if got, want := k.ids(), []string{"c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"}; !slices.Equal(got, want) || k.position.Paused {
			t.Errorf("events %v, want %v; stored as paused: %v", got, want, k.position.Paused)
		}
	})
}
