package watcher

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/tokens"
)

// Span is a part of the oplog that is read again.
type Span struct {
	// From is the time of the first change, included.
	From bson.Timestamp
	// After, if set, leaves out the changes up to that of the token and itself. The
	// token may come from any pipeline.
	After bson.Raw
	// Until is the token of the last change or of an idle stream. Without it, the last changes
	// are all those of the time UntilTime. One of the two is set.
	Until     bson.Raw
	UntilTime bson.Timestamp
	// OrFirst is From.OrFirst of the beginning.
	OrFirst bool
	// History is the history of the position that the span begins at or belongs to, as
	// From.History; "" takes any oplog.
	History string
}

// end is where a span ends, in the form of tokens' texts: a whole one, or the time
// that one begins with.
type end string

func (s Span) end() end {
	if text, ok := tokens.Text(s.Until); ok {
		return end(text)
	}
	return end(tokens.TextOfTime(s.UntilTime))
}

// passed tells whether a token lies behind the end.
func (e end) passed(token bson.Raw) bool {
	text, ok := tokens.Text(token)
	return ok && e.compared(text) > string(e)
}

// reached tells whether nothing up to the end can follow a token. Changes of one time
// can follow each other, so a time is only reached when it has passed. A token of
// unknown form is past every other.
func (e end) reached(token bson.Raw) bool {
	text, ok := tokens.Text(token)
	return !ok || e.compared(text) > string(e) || (!e.isTime() && text == string(e))
}

// near tells whether a token is of the end's time or a later one. An idle stream's
// token sorts before the changes of its own time although they have been scanned, so
// the end of a quiet oplog is found by the time alone.
func (e end) near(token bson.Raw) bool {
	text, _ := tokens.Text(token)
	_, ok := tokens.ClusterTime(token)
	return ok && tokens.TimeOfText(text) >= tokens.TimeOfText(string(e))
}

func (e end) isTime() bool { return tokens.TimeOfText(string(e)) == string(e) }

// compared is the part of a token's text that the end is compared with.
func (e end) compared(text string) string {
	if e.isTime() {
		return tokens.TimeOfText(text)
	}
	return text
}

// errReached ends the reading of a span.
var errReached = errors.New("the span is read to its end")

// ReadSpan reads a part of the oplog and hands its changes to each in chunks, oldest
// first. Empty chunks tell how far it has read where there are no changes. It returns at the end
// of the span, with each's error as it is, or with an *Error if an operator must act: HistoryLost
// if the oplog no longer reaches back to the beginning.
func (w *Watcher) ReadSpan(ctx context.Context, span Span, each func(ctx context.Context, c Chunk) error) error {
	end := span.end()
	var reached, idle bool
	err := w.Run(ctx, From{ClusterTime: span.From, OrFirst: span.OrFirst, History: span.History}, func(ctx context.Context, c Chunk) error {
		// A stream is opened with an empty chunk, at which nothing is scanned yet: of
		// empty chunks at the end's own time, only a second one in a row is the end.
		if _, ok := tokens.Text(c.Token); !ok && end.isTime() {
			return &Error{Class: Unsupported, Hint: "MongoDB 6.0 or newer is needed", Err: errors.New("the server's resume tokens are of an unknown form")}
		}
		wasIdle := idle
		idle = len(c.Changes) == 0
		reached = end.reached(c.Token) || (idle && wasIdle && end.near(c.Token))
		if err := span.hand(ctx, c, end, &reached, each); err != nil {
			return err
		}
		if reached {
			return errReached
		}
		return nil
	})
	switch {
	case errors.Is(err, errReached):
		return nil
	case err == nil:
		return fmt.Errorf("read the oplog: %w", context.Cause(ctx))
	case errors.As(err, new(*Error)):
		return fmt.Errorf("read the oplog: %w", err)
	}
	return err
}

// hand gives each the part of a chunk that lies in the span.
func (s Span) hand(ctx context.Context, c Chunk, end end, reached *bool, each func(ctx context.Context, c Chunk) error) error {
	if len(s.After) > 0 && !tokens.After(c.Token, s.After) {
		return nil
	}
	for len(c.Changes) > 0 && len(s.After) > 0 {
		if token, ok := c.Changes[0].Lookup("_id").DocumentOK(); !ok || tokens.After(token, s.After) {
			break
		}
		c.Changes = c.Changes[1:]
	}
	for i, raw := range c.Changes {
		if token, ok := raw.Lookup("_id").DocumentOK(); ok && !end.passed(token) {
			continue
		}
		*reached = true
		if i == 0 {
			return nil
		}
		c.Changes = c.Changes[:i]
		c.Token = c.Changes[i-1].Lookup("_id").Document()
		break
	}
	return each(ctx, c)
}

// Scan reads the span of the oplog from a time, in a history, to a token, both included, and
// hands its changes to each, oldest first. It is how a process learns what its
// predecessor had seen. It returns when the span is read to its end.
func (w *Watcher) Scan(ctx context.Context, from From, until bson.Raw, each func(change bson.Raw)) error {
	return w.ReadSpan(ctx, Span{From: from.ClusterTime, History: from.History, Until: until, OrFirst: true}, func(_ context.Context, c Chunk) error {
		for _, raw := range c.Changes {
			each(raw)
		}
		return nil
	})
}
