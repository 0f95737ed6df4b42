package daemon

import (
	"context"
	"fmt"
	"sync"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Pause has the stream stop reading, commit what it has read, and store that it is
// paused. It stays this process's until it is handed over, and whoever owns it then,
// after a restart or a rebalance, keeps it paused, until Resume. Pause returns at once;
// Progress shows when it has happened. Only the owner can be asked.
func (s *Stream) Pause() { s.wish.ask(toPause) }

// Resume has a paused stream go on where it stopped.
func (s *Stream) Resume() { s.wish.ask(toResume) }

type wished int

const (
	nothing wished = iota
	toPause
	toResume
)

// wish is what an operator has asked of a stream and has not been stored yet. Once it
// is, the stored position says it, to the next owner as well.
type wish struct {
	mu    sync.Mutex
	asked wished
	// serial tells one wish from the next, changed is closed by the next.
	serial  int
	changed chan struct{}
}

func newWish() *wish { return &wish{changed: make(chan struct{})} }

func (w *wish) ask(what wished) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = what
	w.serial++
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *wish) get() (asked wished, serial int, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked, w.serial, w.changed
}

// granted ends a wish, unless another has come since.
func (w *wish) granted(serial int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.serial == serial {
		w.asked = nothing
	}
}

// untilPause is a context that also ends when the stream is to pause.
func (w *wish) untilPause(ctx context.Context) (context.Context, context.CancelFunc) {
	running, stop := context.WithCancel(ctx)
	go func() {
		for {
			asked, _, changed := w.get()
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

// live carries changes, but for the times that the stream is paused.
func (s *Stream) live(ctx context.Context, p *witness, position resumetoken.Position) error {
	s.facts.anew()
	p.last = position // Without a commit the reading begins here again after a pause.
	var seen *lookup.Seen
	for {
		position, err := s.hold(ctx, p, p.last)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if seen == nil {
			if seen, err = s.remember(ctx, position); err != nil {
				return err
			}
		}
		s.progress.state(Running)
		running, stop := s.wish.untilPause(ctx)
		err = s.carry(running, p, position, seen)
		stop()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// hold waits while the stream is paused. What changes is stored first, so that it holds
// for the next owner too.
func (s *Stream) hold(ctx context.Context, p *witness, position resumetoken.Position) (resumetoken.Position, error) {
	for {
		asked, serial, changed := s.wish.get()
		pause := asked == toPause || (asked == nothing && position.Paused)
		if pause != position.Paused {
			position.Paused = pause
			if err := p.Commit(ctx, &publisher.Batch{Position: position}); err != nil {
				return position, fmt.Errorf("store that the stream is paused or goes on: %w", err)
			}
		}
		s.wish.granted(serial)
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
