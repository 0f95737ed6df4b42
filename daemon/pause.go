package daemon

import (
	"context"
	"fmt"
	"sync"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Pause has the stream stop reading, commit the changes that it has read, and store that it is
// paused. This process keeps the stream. Its next owner, after a restart or a rebalance, keeps it
// paused, until Resume. Pause returns at once; Progress shows when the stream is paused. It works
// on the owner only.
func (s *Stream) Pause() { s.pauseRequest.ask(toPause) }

// Resume has a paused stream go on where it stopped.
func (s *Stream) Resume() { s.pauseRequest.ask(toResume) }

type request int

const (
	nothing request = iota
	toPause
	toResume
)

// pauseRequest is an operator's request to pause or resume a stream, until it is stored. From
// then on the stored position has the pause, also for the next owner.
type pauseRequest struct {
	mu    sync.Mutex
	asked request
	// serial is the number of the request; the next request closes changed.
	serial  int
	changed chan struct{}
}

func newPauseRequest() *pauseRequest { return &pauseRequest{changed: make(chan struct{})} }

func (r *pauseRequest) ask(what request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = what
	r.serial++
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *pauseRequest) get() (asked request, serial int, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked, r.serial, r.changed
}

// granted ends the request of a serial, unless another has come since.
func (r *pauseRequest) granted(serial int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.serial == serial {
		r.asked = nothing
	}
}

// untilPause is a context that also ends when the stream is to pause.
func (r *pauseRequest) untilPause(ctx context.Context) (context.Context, context.CancelFunc) {
	running, stop := context.WithCancel(ctx)
	go func() {
		for {
			asked, _, changed := r.get()
			if asked == toPause {
				stop()
				return
			}
			select {
			case <-running.Done():
				return
			case <-changed:
			}
		}
	}()
	return running, stop
}

// live carries changes while the stream is not paused.
func (s *Stream) live(ctx context.Context, p *countingPublisher, position resumetoken.Position) error {
	s.parts.Facts.anew()
	p.last = position // Without a commit the reading begins here again after a pause.
	for {
		position, err := s.hold(ctx, p, p.last)
		if err != nil || ctx.Err() != nil {
			return err
		}
		// Anew after a pause too: what waited when it began is read again.
		seen, err := s.remember(ctx, position)
		if err != nil {
			return err
		}
		s.progress.state(Running)
		running, stop := s.pauseRequest.untilPause(ctx)
		err = s.carry(running, p, position, seen)
		stop()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// hold waits while the stream is paused. A pause that begins or ends is stored first, so that
// the next owner keeps to it.
func (s *Stream) hold(ctx context.Context, p *countingPublisher, position resumetoken.Position) (resumetoken.Position, error) {
	for {
		asked, serial, changed := s.pauseRequest.get()
		pause := asked == toPause || (asked == nothing && position.Paused)
		if pause != position.Paused {
			position.Paused = pause
			if err := p.Commit(ctx, &publisher.Batch{Position: position}); err != nil {
				return position, fmt.Errorf("store that the stream is paused or goes on: %w", err)
			}
		}
		s.pauseRequest.granted(serial)
		if !pause {
			if asked == toResume {
				s.log.Info("stream goes on after its pause")
			}
			return position, nil
		}
		s.progress.state(Paused)
		s.log.Info("stream is paused")
		select {
		case <-ctx.Done():
			return position, nil
		case <-changed:
		}
	}
}
