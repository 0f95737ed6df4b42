package watcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/wait"
)

// Options say what a Watcher watches and how.
type Options struct {
	// Name is the stream's name; it is the comment of its cursors on the server.
	Name string
	Spec Spec
	// BatchSize is how many changes the server may put into one batch.
	BatchSize int32
	// MaxAwait is how long the server waits for a change before it answers an idle
	// stream.
	MaxAwait time.Duration
	// Limits bound a chunk.
	Limits Limits
	// MinBackoff and MaxBackoff bound the pause before the stream is opened again;
	// it doubles from one failure to the next and is chosen at random from its
	// upper half.
	MinBackoff, MaxBackoff time.Duration
	// OnBreak, if set, is called with each error after which the stream is opened again.
	OnBreak func(error)
}

// Watcher reads one change stream. It is for one goroutine, except where a method says
// otherwise.
type Watcher struct {
	client      *mongo.Client
	opts        Options
	pipeline    mongo.Pipeline
	fingerprint string
	log         *zap.Logger
	cursors     atomic.Int64
	// suspects are the ids of sessions in which a cursor may be left on the server.
	suspects []bson.Raw
	// refused says that the server has refused to end cursors; it is logged once.
	refused bool
	// begun says that the stream has been open.
	begun atomic.Bool
	// openCursor is open, except in tests that script a stream.
	openCursor func(ctx context.Context, from From) (cursor, error)
	// ask is askEvidence, except in those tests.
	ask func(ctx context.Context, from From) (evidence, error)
	// history is the oplog's history at the last opening; nil before.
	history atomic.Pointer[string]
}

// New returns a Watcher. It talks to the server only when it is used.
func New(client *mongo.Client, opts Options, log *zap.Logger) (*Watcher, error) {
	fingerprint, err := opts.Spec.Fingerprint()
	if err != nil {
		return nil, err
	}
	w := &Watcher{client: client, opts: opts, pipeline: opts.Spec.Pipeline(), fingerprint: fingerprint, log: log}
	w.openCursor, w.ask = w.open, w.askEvidence
	return w, nil
}

// OpenCursors is the number of cursors that this Watcher has open on the server; it
// may be asked from any goroutine.
func (w *Watcher) OpenCursors() int64 { return w.cursors.Load() }

// Fingerprint is the hash of the pipeline that this Watcher's tokens belong to.
func (w *Watcher) Fingerprint() string { return w.fingerprint }

// Begin gives the token of a stream that starts at from, before any change is
// read. It is stored first, so that a stop right after cannot skip a change.
func (w *Watcher) Begin(ctx context.Context, from From) (bson.Raw, error) {
	var token bson.Raw
	err := w.retry(ctx, func() (advanced bool, err error) {
		c, err := w.opened(ctx, from)
		if err != nil {
			return false, err
		}
		token = bytes.Clone(c.ResumeToken())
		if err := w.closeCursor(ctx, c); err != nil {
			return false, err
		}
		if len(token) == 0 {
			return false, &Error{Class: Unsupported, Hint: "MongoDB 6.0 or newer is needed", Err: errors.New("the server gives no post-batch resume token")}
		}
		return false, nil
	})
	return token, err
}

// Run reads the stream from a position and hands each chunk to emit, in order, an
// idle stream's empty ones included. When the stream breaks it is opened again
// after the last chunk that emit took. Run returns nil when ctx ends, emit's error
// as it is, or an *Error that opening again cannot mend.
func (w *Watcher) Run(ctx context.Context, from From, emit func(context.Context, Chunk) error) error {
	err := w.retry(ctx, func() (advanced bool, err error) {
		c, err := w.opened(ctx, from)
		if err != nil {
			return false, err
		}
		if from.History == "" {
			from.History = w.History()
		}
		w.log.Debug("change stream open", zap.String("stream", w.opts.Name))
		err = w.drain(ctx, c, emit, func(chunk Chunk) {
			from = From{Token: chunk.Token, History: from.History}
			advanced = advanced || len(chunk.Changes) > 0
		})
		if closing := w.closeCursor(ctx, c); closing != nil && err == nil {
			err = closing
		}
		return advanced, err
	})
	if ctx.Err() != nil && !errors.As(err, new(*emitError)) {
		return nil
	}
	var emitted *emitError
	if errors.As(err, &emitted) {
		return emitted.err
	}
	return err
}

// emitError marks an error of the receiver: the stream itself is well.
type emitError struct{ err error }

func (e *emitError) Error() string { return e.err.Error() }

func (w *Watcher) drain(ctx context.Context, c cursor, emit func(context.Context, Chunk) error, taken func(Chunk)) error {
	reading, done := endingLater(ctx, readGrace)
	defer done()
	for {
		chunk, err := read(reading, c, w.opts.Limits)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		ended := errors.Is(err, errEnded)
		if err != nil && !ended {
			return fmt.Errorf("read change stream %s: %w", w.opts.Name, err)
		}
		if err := emit(ctx, chunk); err != nil {
			return &emitError{err}
		}
		taken(chunk)
		if ended {
			return err
		}
	}
}

// retry calls attempt until it succeeds or must stop: ctx is done, the error is one
// of the fatal table, or it is the receiver's. An attempt that advanced or lasted
// starts the back-off anew: several short troubles in a row are not one long one.
func (w *Watcher) retry(ctx context.Context, attempt func() (advanced bool, err error)) error {
	defer func() {
		if left := w.sweepOnce(ctx); left != nil {
			w.log.Warn(cursorLeft, zap.String("stream", w.opts.Name), zap.Error(left))
		}
	}()
	backoff := wait.Backoff{Min: w.opts.MinBackoff, Max: w.opts.MaxBackoff}
	for {
		began := time.Now()
		advanced, err := attempt()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("stop stream %s: %w", w.opts.Name, errors.Join(context.Cause(ctx), err))
		}
		if errors.As(err, new(*emitError)) {
			return err
		}
		if fatal := w.fatal(err); fatal != nil {
			return fatal
		}
		if advanced || time.Since(began) > w.opts.MaxBackoff {
			backoff.Reset()
		}
		if w.opts.OnBreak != nil {
			w.opts.OnBreak(err)
		}
		pause := backoff.Next()
		message := "change stream broke, opening it again"
		if !w.begun.Load() {
			message = "MongoDB cannot be used yet, trying again"
		}
		w.log.Warn(message,
			zap.String("stream", w.opts.Name), zap.Duration("pause", pause), zap.Error(err))
		if err := wait.Sleep(ctx, pause); err != nil {
			return fmt.Errorf("stop stream %s: %w", w.opts.Name, err)
		}
	}
}

// Probe opens the stream once, as Run does, and reads until the server has answered,
// or ctx ends: then the server has accepted the position and is looking for changes.
// It returns an *Error for what stops a stream (a position that the oplog does not
// hold, a token of another pipeline, missing rights), and the plain error of a server
// that cannot be reached.
func (w *Watcher) Probe(ctx context.Context, from From) error {
	c, err := w.opened(ctx, from)
	if err != nil {
		if left := w.sweepOnce(ctx); left != nil {
			w.log.Debug("what is left of a look at MongoDB could not be closed", zap.String("stream", w.opts.Name), zap.Error(left))
		}
		return w.classified(err)
	}
	// The first answer after the empty one is where the server checks the position.
	reading, done := endingLater(ctx, readGrace)
	defer done()
	_, err = read(reading, c, Limits{Records: 1, Bytes: 1})
	if ctx.Err() != nil || errors.Is(err, errEnded) {
		err = nil
	}
	if closing := w.closeCursor(ctx, c); err == nil {
		return closing
	}
	return w.classified(err)
}

// classified makes an *Error of an error that stops a stream, and returns others unchanged.
func (w *Watcher) classified(err error) error {
	if fatal := w.fatal(err); fatal != nil {
		return fatal
	}
	return fmt.Errorf("probe change stream %s: %w", w.opts.Name, err)
}

// fatal is the *Error that an operator must see, nil for what passes by itself.
func (w *Watcher) fatal(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	if known = classify(err); known != nil {
		return w.opts.Spec.Slice.explain(known)
	}
	if w.begun.Load() {
		return nil // Now it may be a set that is restored: that is waited for.
	}
	return wrongSet(err)
}
