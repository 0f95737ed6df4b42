package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

// Replica runs those of an installation's streams that are assigned to this
// process. Without any it is a stand-by.
type Replica struct {
	streams map[int32][]*Stream
	// reclaim is how long a stream that another process has taken is left alone
	// before it is taken back, if it is still assigned here.
	reclaim time.Duration
	log     *zap.Logger

	mu      sync.Mutex
	running map[int32]*assignment
	// closed says that the process ends: what the group still assigns is not begun.
	closed bool
	// failed has room for the first error that ends the process.
	failed chan error
	base   context.Context //nolint:containedctx // assignments come from the group, not from a caller with a context.
}

// assignment is one term of ownership of a partition.
type assignment struct {
	stop context.CancelCauseFunc
	done sync.WaitGroup
}

// NewReplica returns a Replica for streams by the partition that they belong to.
// ctx ends all of them.
func NewReplica(ctx context.Context, streams map[int32][]*Stream, reclaim time.Duration, log *zap.Logger) *Replica {
	return &Replica{
		streams: streams, reclaim: reclaim, log: log, base: ctx,
		running: map[int32]*assignment{}, failed: make(chan error, 1),
	}
}

// Assigned begins the streams of partitions.
func (r *Replica) Assigned(partitions []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range partitions {
		if r.closed || r.running[p] != nil || len(r.streams[p]) == 0 {
			continue
		}
		ctx, stop := context.WithCancelCause(r.base)
		a := &assignment{stop: stop}
		for _, s := range r.streams[p] {
			a.done.Go(func() { r.run(ctx, s) })
		}
		r.running[p] = a
	}
}

// run runs a stream for one term. A stream that another process has taken is not
// taken back at once: the group is about to assign it, and two processes that take a stream
// from each other make no progress.
func (r *Replica) run(ctx context.Context, s *Stream) {
	for {
		err := s.Run(ctx)
		switch {
		case err == nil:
			return
		case !errors.Is(err, resumetoken.ErrFenced):
			r.fail(s, err)
			return
		}
		s.progress.state(StandingBy)
		s.log.Warn("another process has the stream; standing by", zap.Duration("reclaim", r.reclaim), zap.Error(err))
		if wait.Sleep(ctx, r.reclaim) != nil {
			return
		}
	}
}

// fail has Wait end with an error of a stream. What could not be committed before a stream
// was handed over is the next owner's to read, and no reason for this process to end.
func (r *Replica) fail(s *Stream, err error) {
	if !final(err) && r.base.Err() == nil {
		s.log.Warn("handed over before everything read was published; the next owner reads it again", zap.Error(err))
		return
	}
	select {
	case r.failed <- err:
	default:
		s.log.Error("a further stream has ended with an error", zap.Error(err))
	}
}

// Failed has Wait end with an error of the group, or of a look at what the streams need.
func (r *Replica) Failed(err error) {
	select {
	case r.failed <- err:
	default: // One is enough.
	}
}

// Revoked ends the streams of partitions: they stop reading and commit what they
// have read.
func (r *Replica) Revoked(partitions []int32) { r.end(partitions, nil) }

// end ends the streams of partitions for a reason and waits until they have ended.
func (r *Replica) end(partitions []int32, reason error) {
	var ending []*assignment
	r.mu.Lock()
	for _, p := range partitions {
		if a := r.running[p]; a != nil {
			a.stop(reason)
			ending = append(ending, a)
			delete(r.running, p)
		}
	}
	r.mu.Unlock()
	for _, a := range ending {
		a.done.Wait()
	}
}

// Lost ends the streams of partitions that may have a new owner, and aborts their open
// transactions: the new owner reads those changes again, and until then an open transaction would
// hold up the consumers.
func (r *Replica) Lost(partitions []int32) { r.end(partitions, errLost) }

// Wait waits until ctx ends, or for an error that an operator must see. Then all
// streams are ended; one that ends with an error only then makes it Wait's.
func (r *Replica) Wait(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-r.failed:
	}
	r.mu.Lock()
	r.closed = true
	all := make([]int32, 0, len(r.running))
	for p := range r.running {
		all = append(all, p)
	}
	r.mu.Unlock()
	r.Revoked(all)
	if err == nil {
		select {
		case err = <-r.failed:
		default:
		}
	}
	return err
}
