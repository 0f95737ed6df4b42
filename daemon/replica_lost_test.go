package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// slow commits only when it is let, and says how a commit ended.
type slow struct {
	*recorder
	let   chan struct{}
	ended chan error
}

func (s slow) Commit(ctx context.Context, b *publisher.Batch) error {
	if len(b.Events) == 0 {
		return s.recorder.Commit(ctx, b)
	}
	select {
	case <-s.let:
		err := s.recorder.Commit(ctx, b)
		s.ended <- err
		return err
	case <-ctx.Done():
		s.ended <- context.Cause(ctx)
		return ctx.Err()
	}
}

// What is revoked is committed first, however long that takes; what is lost is aborted
// at once.
func TestRevokedCommitsAndLostAborts(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*Replica)
		lost bool
	}{
		"revoked": {func(r *Replica) { r.Revoked([]int32{0}) }, false},
		"lost":    {func(r *Replica) { r.Lost([]int32{0}) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
				s := stream(tick(t), nil, k, nil)
				p := slow{&recorder{kept: k}, make(chan struct{}), make(chan error, 1)}
				s.parts.Publish = func() (Publisher, error) { return p, nil }
				r := NewReplica(t.Context(), map[int32][]*Stream{0: {s}}, time.Minute, zap.NewNop())
				r.Assigned([]int32{0})
				time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // the bubble's clock.
				synctest.Wait()                     // The first change is being committed.

				began := time.Now()
				const delay = time.Second
				time.AfterFunc(delay, func() { close(p.let) })
				test.end(r)
				took, err := time.Since(began), <-p.ended
				switch {
				case test.lost && (took >= delay || !errors.Is(err, context.Canceled) && !errors.Is(err, errLost) || len(k.ids()) > 0):
					t.Errorf("ended after %v, the commit with %v, events %v: want an abort at once", took, err, k.ids())
				case !test.lost && (took < delay || err != nil || len(k.ids()) != 1):
					t.Errorf("ended after %v, the commit with %v, events %v: want the event committed", took, err, k.ids())
				}
				time.Sleep(delay) //nolint:forbidigo // the bubble's clock: the timer's end.
			})
		})
	}
}

// What a stream could not commit at the end of the process is the process's error; where
// only a partition is handed over, the next owner reads it, and the process goes on.
func TestWhatIsNotCommittedAtTheEnd(t *testing.T) {
	for name, test := range map[string]struct {
		// end ends the stream, and the process where it is to.
		end  func(r *Replica, stop context.CancelFunc)
		let  bool
		want error
	}{
		"the process ends, the commit takes too long": {func(_ *Replica, stop context.CancelFunc) { stop() }, false, errDrainTimeout},
		"the process ends, the commit fails":          {func(_ *Replica, stop context.CancelFunc) { stop() }, true, errCommit},
		"the partition is handed over": {func(r *Replica, stop context.CancelFunc) {
			r.Revoked([]int32{0})
			stop()
		}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}, failures: 1}
				s := stream(tick(t), nil, k, nil)
				p := slow{&recorder{kept: k}, make(chan struct{}), make(chan error, 1)}
				s.parts.Publish = func() (Publisher, error) { return p, nil }
				ctx, stop := context.WithCancel(t.Context())
				r := NewReplica(ctx, map[int32][]*Stream{0: {s}}, time.Minute, zap.NewNop())
				r.Assigned([]int32{0})
				ended := make(chan error)
				go func() { ended <- r.Wait(ctx) }()
				time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // the bubble's clock.
				synctest.Wait()                     // The first change is being committed.
				if test.let {
					time.AfterFunc(time.Second, func() { close(p.let) })
				}
				test.end(r, stop)
				if err := <-ended; !errors.Is(err, test.want) {
					t.Errorf("ended with %v, want %v", err, test.want)
				}
			})
		})
	}
}

// refusing is a publisher whose commit an operator has to see to.
type refusing struct{ *recorder }

func (refusing) Commit(context.Context, *publisher.Batch) error {
	return &publisher.ConfigurationError{Err: errors.New("the topic takes less")}
}

// An error of a commit that an operator must see ends the process.
func TestACommitThatIsRefusedEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
		s := stream(tick(t), nil, k, nil)
		s.parts.Publish = func() (Publisher, error) { return refusing{&recorder{kept: k}}, nil }
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		r := NewReplica(ctx, map[int32][]*Stream{0: {s}}, time.Minute, zap.NewNop())
		r.Assigned([]int32{0})
		if err := r.Wait(ctx); !errors.As(err, new(*publisher.ConfigurationError)) || ctx.Err() != nil {
			t.Errorf("ended with %v (%v)", err, ctx.Err())
		}
	})
}
