package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// windowing is the middle stage of an attempt of a stream of windows: chunks to batches, each with
// the events of a window or of a part of them. The position stays before an open window, so that
// it is read anew after an end of any kind.
type windowing struct {
	*mapping
	windows *windows
	// stored is the position after the newest change whose token can be stored, base the one before
	// the open window, or before the window that was published in part.
	stored, base resumetoken.Position
	// gone are what ended collections inside the open window: it may be read again, so they are put
	// on record when it ends.
	gone []mapper.Change
	// read is when the chunk under way was read, began when its mapping began.
	read, began time.Time
}

func newWindowing(m *mapping) *windowing {
	if m.position.Window == nil {
		m.position.Window = &resumetoken.Window{}
	}
	w := newWindows(m.parts.Mapper, m.parts.Facts.Links, m.mostOpen)
	w.answered = func() { m.progress.mapping(time.Now()) }
	return &windowing{mapping: m, windows: w, stored: m.position, base: m.position}
}

// run makes batches of chunks until chunks is closed. A window that is still open then is read
// again.
func (w *windowing) run(ctx context.Context, chunks <-chan watcher.Chunk, batches chan<- *publisher.Batch) error {
	for c := range chunks {
		if err := w.chunk(ctx, c, batches); err != nil {
			return err
		}
	}
	return nil
}

func (w *windowing) chunk(ctx context.Context, c watcher.Chunk, batches chan<- *publisher.Batch) error {
	began := time.Now()
	w.progress.mapping(began)
	defer w.progress.mapping(time.Time{})
	w.read, w.began = c.Read, began
	w.changes = make([]mapper.Change, 1)
	change := &w.changes[0]
	for _, raw := range c.Changes {
		w.parts.Mapper.Read(raw, change)
		at := change.Name.ClusterTime
		if w.windows.ends(at.T) {
			if err := w.publish(ctx, at, false, batches); err != nil {
				return err
			}
		}
		if w.windows.open && slices.Contains(lifecycles(), change.Name.Operation) {
			w.gone = append(w.gone, *change)
		} else if err := w.noteLifecycle(ctx, change); err != nil {
			return err
		}
		next, had := w.windowOf(at.T)
		if !had && !Published(w.position.Published, raw) {
			before, failures := w.windows.open, len(w.windows.failures)
			if w.windows.add(change, next) && !before {
				w.base = w.stored
			}
			if stop := w.stopping(w.windows.failures[failures:]); stop != nil {
				return stop
			}
		}
		w.pass(w.after(change.Name.Token, w.changes))
		if w.windows.full() && !large(change.Name.Token) {
			if err := w.publish(ctx, at, true, batches); err != nil {
				return err
			}
		}
	}
	if len(c.Token) == 0 {
		return nil
	}
	w.pass(w.after(c.Token, nil))
	at, ok := tokens.ClusterTime(c.Token)
	if ok && w.windows.ends(at.T) {
		return w.publish(ctx, at, false, batches)
	}
	if w.windows.open {
		return nil
	}
	return w.send(ctx, &publisher.Batch{Position: w.stored}, batches)
}

// pass moves the position.
func (w *windowing) pass(position resumetoken.Position) {
	w.position = position
	if !large(position.Token) {
		w.stored = position
	}
}

// windowOf is the window of a time. had says that the window has been published.
func (w *windowing) windowOf(second uint32) (next mapper.Window, had bool) {
	last := w.position.Window
	switch {
	case last.Unfinished && second < last.End:
		return stored(last), second < last.Start
	case second < last.End:
		return next, true
	}
	next = w.parts.Mapper.WindowAt(second)
	// Windows of another length may have been published up to the middle of it.
	next.Start = max(next.Start, last.End)
	return next, false
}

// stored is the window, or the part of one, that a position tells of.
func stored(last *resumetoken.Window) mapper.Window {
	return mapper.Window{Start: last.Start, End: last.End, Part: last.Part}
}

// publish sends the events of the open window, or of a part of it that ends early, in batches. at
// is the time of what ended it. All batches but the last one leave the position where it is, and
// tell how far they have come.
func (w *windowing) publish(ctx context.Context, at bson.Timestamp, early bool, batches chan<- *publisher.Batch) error {
	all, err := w.windows.all(ctx, at)
	if err != nil {
		return err
	}
	window, done := w.windows.window, place{}
	if last := w.position.Window; last.Unfinished && stored(last) == window {
		done = placeOf(last.After)
	}
	var out mapper.Output
	bytes := 0
	page := func() error {
		if len(out.Events)+len(out.Failures) < w.bound.atMost(min(w.opts.MaxRecords, pageEvents)) && bytes < w.opts.MaxBytes {
			return nil
		}
		position := w.base
		position.Window = &resumetoken.Window{Start: window.Start, End: window.End, Part: window.Part, Unfinished: true, After: done.String()}
		err := w.sendEvents(ctx, &out, position, bytes, batches)
		out, bytes = mapper.Output{}, 0
		return err
	}
	for _, c := range all {
		if c.compare(done) > 0 {
			if err := page(); err != nil {
				return err
			}
			n := len(out.Events)
			w.windows.append(c, &out)
			for i := range out.Events[n:] {
				bytes += out.Events[n+i].Size()
			}
			done = c.place
		}
	}
	for i, at := range w.windows.failed() {
		if at.compare(done) > 0 {
			if err := page(); err != nil {
				return err
			}
			f := w.windows.failures[i]
			out.Failures, bytes, done = append(out.Failures, f), bytes+sizeOf(f), at
		}
	}
	for i := range w.gone {
		if err := w.noteLifecycle(ctx, &w.gone[i]); err != nil {
			return err
		}
	}
	w.gone = nil
	w.windows.clear()
	next := &resumetoken.Window{Start: window.Start, End: window.End}
	if early {
		next.Unfinished, next.Part = true, window.Part+1
	}
	w.position.Window, w.stored.Window = next, next
	w.base = w.stored
	return w.sendEvents(ctx, &out, w.stored, bytes, batches)
}

// sendEvents sends a batch of events, of which those are failures that their topic does not take.
func (w *windowing) sendEvents(ctx context.Context, out *mapper.Output, position resumetoken.Position, bytes int, batches chan<- *publisher.Batch) error {
	if err := w.limitsHold(ctx, out.Events); err != nil {
		return err
	}
	tooLarge(w.publisher.MaxEventBytes, 0, out)
	if stop := w.stopping(out.Failures); stop != nil {
		return stop
	}
	return w.send(ctx, &publisher.Batch{Events: out.Events, Failures: out.Failures, Position: position, Changes: len(out.Events) + len(out.Failures), Bytes: bytes}, batches)
}

func (w *windowing) send(ctx context.Context, b *publisher.Batch, batches chan<- *publisher.Batch) error {
	b.Read, b.Map, b.Mapped = w.read, w.began, time.Now()
	w.progress.mapping(time.Time{}) // It is not MongoDB that is waited for.
	select {
	case batches <- b:
		w.progress.mapping(time.Now())
		return nil
	case <-ctx.Done():
		return fmt.Errorf("publish a window: %w", context.Cause(ctx))
	}
}
