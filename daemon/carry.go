package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// chunksAhead is how many server batches are read ahead while a batch is mapped
// and another committed. Together with Limits it bounds the memory of a stream.
const chunksAhead = 2

// carry is the way of the batches: read → map → commit, a goroutine each, with
// room for little between them, so that reading waits for Kafka. While a commit is
// under way, and in the rest after it, the changes of that time become the next batch: an
// idle stream commits a change at once, a busy one in large batches.
//
// When ctx ends, reading stops, what was read is committed, and carry returns nil.
func (s *Stream) carry(ctx context.Context, p Publisher, position resumetoken.Position, seen *lookup.Seen) error {
	chunks := make(chan watcher.Chunk, chunksAhead)
	batches := make(chan *publisher.Batch, 1)

	// The stages after the reader outlive ctx by the drain's time at most.
	draining, abort := s.drainContext(ctx)
	defer abort()
	g, working := errgroup.WithContext(draining)

	reading, stopReading := mergeDone(ctx, working)
	defer stopReading()

	g.Go(func() error {
		defer close(chunks)
		return s.read(reading, position, chunks)
	})
	var stopped *PolicyError
	g.Go(func() error {
		defer close(batches)
		m := &mapping{Stream: s, publisher: p, position: position, seen: seen, waiting: newWaiting(s.parts.Facts.RequestIDs)}
		var err error
		if s.parts.Mapper.Windowed() {
			err = newWindowing(m).run(working, chunks, batches)
		} else {
			err = m.run(working, reading.Done(), chunks, batches)
		}
		if errors.As(err, &stopped) {
			// No error to the group: what comes before the failure is committed first.
			stopReading()
			return nil
		}
		return err
	})
	g.Go(func() error {
		c := &committing{Stream: s, publisher: p, stored: time.Now()}
		return c.run(working, batches)
	})
	if err := g.Wait(); err != nil {
		if cause := context.Cause(draining); errors.Is(cause, errDrainTimeout) || errors.Is(cause, errLost) {
			return cause
		}
		return fmt.Errorf("carry changes: %w", err)
	}
	if stopped != nil {
		return stopped
	}
	return nil
}

// drainContext is done DrainTimeout after ctx is.
func (s *Stream) drainContext(ctx context.Context) (context.Context, context.CancelFunc) {
	draining, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errLost) {
			abort(errLost)
			return
		}
		timer := time.AfterFunc(s.opts.DrainTimeout, func() { abort(errDrainTimeout) })
		context.AfterFunc(draining, func() { timer.Stop() })
	})
	return draining, func() { stop(); abort(nil) }
}

var errDrainTimeout = errors.New("shutdown_timeout passed before everything read was published")

// errLost ends streams whose partition the group may have given to another process.
var errLost = errors.New("the group has given this process up")

// mergeDone is a context that is done when either is.
func mergeDone(a, b context.Context) (context.Context, context.CancelFunc) {
	merged, cancel := context.WithCancel(a)
	stop := context.AfterFunc(b, cancel)
	return merged, func() { stop(); cancel() }
}

// read hands the stream's chunks on until ctx ends.
func (s *Stream) read(ctx context.Context, position resumetoken.Position, chunks chan<- watcher.Chunk) error {
	from := watcher.From{Token: position.Token, History: position.History}
	var published bson.Raw
	if position.Fingerprint != s.parts.Source.Fingerprint() {
		// A token is only valid under its own pipeline. The new one starts at the
		// position's time, and what lies before the position is left out.
		s.log.Info("what is watched has changed; going on at the stored cluster time", zap.String("clusterTime", clusterTime(position.ClusterTime)))
		from = watcher.From{ClusterTime: position.ClusterTime, History: position.History}
		published = position.Token
	}
	defer func() {
		if ctx.Err() != nil {
			s.progress.ended()
		}
	}()
	var held watcher.Chunk
	return s.parts.Source.Run(ctx, from, func(ctx context.Context, c watcher.Chunk) error {
		s.progress.read(true)
		defer s.progress.read(false)
		if published != nil {
			c.Changes = after(c.Changes, published)
			if len(c.Changes) > 0 || tokens.After(c.Token, published) {
				published = nil
			} else {
				return nil // Still before the position: it must not go back.
			}
		}
		c, held = joined(held, c), watcher.Chunk{}
		if large(c.Token) && c.Size < maxHeldBytes {
			held = c // An idle stream's token comes soon, and has no document's id.
			return nil
		}
		for piece := range s.bound.pieces(c) {
			select {
			case chunks <- piece:
			case <-ctx.Done():
				return nil // The rest of the chunk is read again after the restart.
			}
		}
		return nil
	})
}

const (
	// maxTokenBytes is the largest token that becomes a position. A change's token has the
	// document's id in it, which may have megabytes, and no store takes such a position.
	maxTokenBytes = 16 << 10
	// maxHeldBytes bounds the changes that wait for a token that can be stored.
	maxHeldBytes = 64 << 20
)

// large tells whether a token is too large for a position, or a part of one.
func large(token bson.Raw) bool { return len(token) > maxTokenBytes }

// joined is a chunk with what was read right before it.
func joined(before, c watcher.Chunk) watcher.Chunk {
	if len(before.Changes) == 0 {
		return c
	}
	before.Changes, before.Size, before.Token = append(before.Changes, c.Changes...), before.Size+c.Size, c.Token
	return before
}

// after leaves out the changes up to and including the one of token.
func after(changes []bson.Raw, token bson.Raw) []bson.Raw {
	for i, raw := range changes {
		if id, ok := raw.Lookup("_id").DocumentOK(); ok && tokens.After(id, token) {
			return changes[i:]
		}
	}
	return nil
}
