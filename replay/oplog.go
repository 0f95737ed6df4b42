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
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// OplogSource is where a stream's changes are read again; *watcher.Watcher is one.
type OplogSource interface {
	// Now is the time of the newest entry.
	Now(ctx context.Context) (bson.Timestamp, error)
	// Oldest is the time of the oldest entry.
	Oldest(ctx context.Context) (bson.Timestamp, error)
	ReadSpan(ctx context.Context, span watcher.Span, each func(context.Context, watcher.Chunk) error) error
}

// Stream is one stream of the installation.
type Stream struct {
	Name   string
	Mapper *mapper.Mapper
	Source OplogSource
	// Requests reads the feeds of AccessedEverything only; nil where there are none.
	Requests OplogSource
}

// Oplog reads spans of the oplog as the live streams read them: the same changes in
// the same order become the same events.
type Oplog struct {
	// Facts are the look-ups. What has been written since may make a fact known that
	// was not known live, and Persons are as they are now.
	Facts daemon.Facts
	// SeenWindow is how far before the span a stream reads which $everything requests
	// had had their event; SeenRequests is how many it remembers.
	SeenWindow   time.Duration
	SeenRequests int
	// MaxEventBytes is the largest mapper.Event.Size that a topic takes.
	MaxEventBytes func(topic string) int
	// Forgotten is told when the window before the span could not be read: a request
	// may have a second event, of the same id.
	Forgotten func(stream string, err error)
}

// Part is what came of consecutive changes.
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
func (o *Oplog) Read(ctx context.Context, s Stream, span watcher.Span, each func(context.Context, Part) error) error {
	t := daemon.NewTranslation(s.Mapper, o.Facts, o.SeenRequests, o.MaxEventBytes)
	if err := o.remember(ctx, s, span, t); err != nil {
		return err
	}
	parts := make(chan Part, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(parts)
		return s.Source.ReadSpan(ctx, span, func(ctx context.Context, c watcher.Chunk) error {
			var out mapper.Output
			if err := t.Append(ctx, c.Changes, &out); err != nil {
				return err
			}
			p := Part{Events: out.Events, Failures: out.Failures, Changes: len(c.Changes), Token: c.Token}
			p.At, _ = resumetoken.ClusterTime(c.Token)
			select {
			case parts <- p:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	g.Go(func() error {
		for p := range parts {
			if err := each(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	return nil
}

// remember reads which $everything requests were seen in the window before the span.
func (o *Oplog) remember(ctx context.Context, s Stream, span watcher.Span, t *daemon.Translation) error {
	window := uint32(o.SeenWindow / time.Second)
	if s.Requests == nil || window == 0 || span.From.T <= window {
		return nil
	}
	before := watcher.Span{From: bson.Timestamp{T: span.From.T - window}, Until: span.After}
	if span.After == nil {
		before.UntilTime = Before(span.From)
	}
	err := s.Requests.ReadSpan(ctx, before, func(_ context.Context, c watcher.Chunk) error {
		for _, raw := range c.Changes {
			t.Remember(raw)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && o.Forgotten != nil {
		o.Forgotten(s.Name, err) // An event twice (with one id) is better than none.
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

// Reach makes sure that the oplog still holds a span's beginning, before anything is
// done about the span.
func Reach(ctx context.Context, s Stream, span watcher.Span) error {
	chunks := 0
	err := s.Source.ReadSpan(ctx, span, func(context.Context, watcher.Chunk) error {
		// A stream is opened without looking at the oplog.
		if chunks++; chunks > 1 {
			return errEnough
		}
		return nil
	})
	if err == nil || errors.Is(err, errEnough) {
		return nil
	}
	if lost := new(watcher.Error); errors.As(err, &lost) && lost.Class == watcher.HistoryLost {
		return &BeyondOplogError{Stream: s.Name, From: span.From, Oldest: oldest(ctx, s), Err: err}
	}
	return fmt.Errorf("stream %s: %w", s.Name, err)
}

var errEnough = errors.New("enough")

// oldest is the time of the oldest change that can be read; zero if the user may not
// ask.
func oldest(ctx context.Context, s Stream) bson.Timestamp {
	at, err := s.Source.Oldest(ctx)
	if err != nil {
		return bson.Timestamp{}
	}
	return at
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
