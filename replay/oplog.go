package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Oplog is where a stream's changes are read again; *watcher.Watcher is one.
type Oplog interface {
	// Now is the time of the newest entry.
	Now(ctx context.Context) (bson.Timestamp, error)
	// Window is the span of the oplog, as far as the server tells it.
	Window(ctx context.Context) (watcher.Window, error)
	ReadSpan(ctx context.Context, span watcher.Span, each func(context.Context, watcher.Chunk) error) error
}

// StreamOplog is the oplog as one stream of the installation reads it.
type StreamOplog struct {
	Name   string
	Mapper *mapper.Mapper
	Oplog  Oplog
	// Requests reads the feeds of AccessedEverything only; nil where there are none.
	Requests Oplog
}

// Reader reads spans of the oplog as the live streams read them: the same changes in
// the same order become the same events.
type Reader struct {
	// Facts are the look-ups. They may find a request id that was written after the stream
	// had looked for it, and they find Persons as they are now.
	Facts daemon.Facts
	// SeenWindow is the time before the span that is read for $everything requests that have
	// had their event; SeenRequests is the number of requests that are remembered.
	SeenWindow   time.Duration
	SeenRequests int
	// MaxEventBytes is the largest mapper.Event.Size that a topic takes.
	MaxEventBytes func(topic string) int
	// Forgotten is called when the window before the span could not be read: a request
	// may have a second event, of the same id.
	Forgotten func(stream string, err error)
	// Lags, if set, is called about every second with the stream or collection that waits for a
	// majority, and with "" when the wait is over.
	Lags func(what string)
	// LeftOut, if set, is called with a window that the span has only a part of, and that is left
	// out.
	LeftOut func(stream string, window mapper.Window)

	// parts says that the events of such a window are handed over too: their ids are right.
	parts bool
}

// IDsOnly is a Reader for the ids of events. It looks up only what decides whether there is one.
func (r Reader) IDsOnly() Reader {
	r.Facts.Persons, r.Facts.LinksOnly, r.parts = noPersons{}, true, true
	r.MaxEventBytes = func(string) int { return math.MaxInt }
	return r
}

// noPersons stands in for look-ups where only ids matter.
type noPersons struct{}

func (noPersons) Find(context.Context, []string, bson.Timestamp) (map[string]lookup.Person, error) {
	return nil, nil
}
func (noPersons) Changed(string, string, []string) {}
func (noPersons) Forget()                          {}

// Translation maps changes to events with the Reader's look-ups.
func (r *Reader) Translation(m *mapper.Mapper) *daemon.Translation {
	return daemon.NewTranslation(m, r.Facts, r.SeenRequests, r.MaxEventBytes)
}

// Bare are the events of a change without facts, which cost queries and which ids do not depend
// on. Where the history decides whether there is an event, there is one here.
func Bare(m *mapper.Mapper, c *mapper.Change) mapper.Output {
	var out mapper.Output
	m.Append(c, mapper.Facts{IDsOnly: true}, &out)
	return out
}

// Part are the events and failures of consecutive changes.
type Part struct {
	Events   []mapper.Event
	Failures []mapper.Failure
	// Changes is their number.
	Changes int
	// Token is the resume token after them, At its time. A part without changes only
	// tells how far the reading has come.
	Token bson.Raw
	At    bson.Timestamp
}

// Read hands the events of a span to each, part by part, in order. The next part is
// read and mapped meanwhile.
func (r *Reader) Read(ctx context.Context, s StreamOplog, span watcher.Span, each func(context.Context, Part) error) error {
	if s.Mapper.Windowed() {
		return r.readWindows(ctx, s, span, each)
	}
	t := r.Translation(s.Mapper)
	if err := r.remember(ctx, s, span, t); err != nil {
		return err
	}
	return r.read(ctx, s, span, func(ctx context.Context, c watcher.Chunk, emit func(mapper.Output) error) error {
		var out mapper.Output
		if err := t.Append(ctx, c.Changes, &out); err != nil {
			return err
		}
		return emit(out)
	}, nil, each)
}

// read hands over what translate makes of the chunks of a span, and in the end what is left.
func (r *Reader) read(ctx context.Context, s StreamOplog, span watcher.Span, translate func(context.Context, watcher.Chunk, func(mapper.Output) error) error,
	end func(context.Context, func(mapper.Output) error) error, each func(context.Context, Part) error,
) error {
	parts := make(chan Part, 1)
	still := Standstill{Lags: r.Lags}
	defer still.End()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(parts)
		var last watcher.Chunk
		emit := func(out mapper.Output) error {
			p := Part{Events: out.Events, Failures: out.Failures, Changes: len(last.Changes), Token: last.Token}
			p.At, _ = tokens.ClusterTime(last.Token)
			last.Changes = nil // They are counted.
			select {
			case parts <- p:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		err := s.Oplog.ReadSpan(ctx, span, func(ctx context.Context, c watcher.Chunk) error {
			still.Look(c, "the oplog of stream "+s.Name)
			last = c
			return translate(ctx, c, emit)
		})
		if err != nil || end == nil {
			return err
		}
		return end(ctx, emit)
	})
	var handing error
	g.Go(func() error {
		for p := range parts {
			if handing = each(ctx, p); handing != nil {
				return handing
			}
		}
		return nil
	})
	switch err := g.Wait(); {
	case err == nil:
		return nil
	case handing == nil || errors.Is(err, handing):
		return fmt.Errorf("stream %s: %w", s.Name, err)
	default:
		// The reading ended first, for instance by an interruption. The error of each is
		// returned with it.
		return fmt.Errorf("stream %s: %w: %w", s.Name, handing, err)
	}
}

// remember reads which $everything requests were seen in the window before the span.
func (r *Reader) remember(ctx context.Context, s StreamOplog, span watcher.Span, t *daemon.Translation) error {
	window := uint32(r.SeenWindow / time.Second)
	if s.Requests == nil || window == 0 || span.From.T <= window {
		return nil
	}
	before := watcher.Span{From: bson.Timestamp{T: span.From.T - window}, Until: span.After, OrFirst: true, History: span.History}
	if span.After == nil {
		before.UntilTime = Before(span.From)
	}
	err := s.Requests.ReadSpan(ctx, before, func(_ context.Context, c watcher.Chunk) error {
		for _, raw := range c.Changes {
			t.Remember(raw)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && r.Forgotten != nil {
		r.Forgotten(s.Name, err) // An event twice (with one id) is better than none.
		return nil
	}
	return err
}

// Before is the last time of the oplog before a time.
func Before(t bson.Timestamp) bson.Timestamp {
	if t.I > 0 {
		return bson.Timestamp{T: t.T, I: t.I - 1}
	}
	return bson.Timestamp{T: t.T - 1, I: math.MaxUint32}
}

// Reach makes sure that the oplog still holds a span's beginning, before any of its events is
// published.
func Reach(ctx context.Context, s StreamOplog, span watcher.Span) error {
	chunks := 0
	err := s.Oplog.ReadSpan(ctx, span, func(context.Context, watcher.Chunk) error {
		// The server opens a stream without a look at the oplog.
		if chunks++; chunks > 1 {
			return errEnough
		}
		return nil
	})
	if err == nil || errors.Is(err, errEnough) {
		return nil
	}
	if lost := new(watcher.Error); errors.As(err, &lost) && lost.Class == watcher.HistoryLost {
		return &BeyondOplogError{Stream: s.Name, From: span.From, Oldest: s.Window(ctx).Oldest, Err: err}
	}
	return fmt.Errorf("stream %s: %w", s.Name, err)
}

var errEnough = errors.New("enough")

// Window is the span that the oplog still holds; zero where it cannot be asked.
func (s StreamOplog) Window(ctx context.Context) watcher.Window {
	window, err := s.Oplog.Window(ctx)
	if err != nil {
		return watcher.Window{}
	}
	return window
}

// BeyondOplogError says that a span begins before the oplog does.
type BeyondOplogError struct {
	Stream       string
	From, Oldest bson.Timestamp // Oldest is zero if it is not known
	Err          error
}

// Error says from when on the oplog can be read.
func (e *BeyondOplogError) Error() string {
	text := fmt.Sprintf("stream %s: the oplog does not reach back to %s", e.Stream, Clock(e.From))
	if !e.Oldest.IsZero() {
		text += "; its oldest change is of " + Clock(e.Oldest)
	}
	return text
}

// Unwrap gives the server's error.
func (e *BeyondOplogError) Unwrap() error { return e.Err }

// Clock is a time of the oplog as people write it.
func Clock(t bson.Timestamp) string { return time.Unix(int64(t.T), 0).UTC().Format(time.RFC3339) }
