package watcher

import (
	"context"
	"errors"
	"fmt"
)

// Probe opens the stream once, as Run does, and reads until the server has answered,
// or ctx ends: then the server has accepted the position and is looking for changes.
// It returns an *Error for what stops a stream (a position that the oplog does not
// hold, a token of another pipeline, missing rights), and the plain error of a server
// that cannot be reached.
func (w *Watcher) Probe(ctx context.Context, from From) error {
	c, err := w.openCursor(ctx, from)
	if err != nil {
		return w.sorted(errors.Join(err, w.sweepOnce(ctx)))
	}
	w.cursors.Add(1)
	// The first answer after the empty one is where the server checks the position.
	reading, done := lasting(ctx, readGrace)
	defer done()
	_, err = read(reading, c, Limits{Records: 1, Bytes: 1})
	if ctx.Err() != nil || errors.Is(err, errEnded) {
		err = nil
	}
	if closing := w.closeCursor(ctx, c); err == nil {
		return closing
	}
	return w.sorted(err)
}

// sorted makes an *Error of what stops a stream and leaves everything else as it is.
func (w *Watcher) sorted(err error) error {
	if known := classify(err); known != nil {
		return w.opts.Spec.Slice.explain(known)
	}
	return fmt.Errorf("probe change stream %s: %w", w.opts.Name, err)
}
