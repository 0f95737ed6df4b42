package replay

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Outcome is what became of a dead letter.
type Outcome string

// The outcomes.
const (
	// Published says that the event of the change is published.
	Published Outcome = "published"
	// Publishable says that a retry would publish it.
	Publishable Outcome = "would be published"
	// NotTried says that the work ended before.
	NotTried Outcome = "not tried"
	// Already says that an earlier retry published it.
	Already Outcome = "published before"
	// StillFails says that the change cannot be an event yet.
	StillFails Outcome = "still fails"
	// NoEvent says that the change makes no event of the kind any more, or that no stream reads it.
	NoEvent Outcome = "no event"
	// Forgotten says that the oplog does not hold the change any more.
	Forgotten Outcome = "not in the oplog"
)

// Retried is a dead letter with what became of it.
type Retried struct {
	Place   string      `json:"place"`
	Kind    mapper.Kind `json:"kind"`
	Key     string      `json:"key"`
	Outcome Outcome     `json:"outcome"`
	// ID is the event's; Reason is why there is none.
	ID     string `json:"id,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// LetterRetry publishes the events of dead letters: their changes are read from the oplog once
// more, and only their events are published, with the ids that they would have had.
//
// The record of a retry is in the transaction of its events, and is read after the publisher
// has been opened, which ends an earlier retry of the stream: so a dead letter has one event,
// whatever is interrupted or done twice.
type LetterRetry struct {
	Reader *Reader
	// Open gives the publisher of a stream; nil only looks. Of two of a stream the later one
	// ends the earlier one.
	Open func(ctx context.Context, stream string) (Publisher, error)
	// Done tells which dead letters have been retried.
	Done func(ctx context.Context) (func(*publisher.DeadLetter) bool, error)
	// Record makes the record of dead letters that are retried now.
	Record func(stream string, retried []publisher.DeadLetter) (kgo.Record, error)
}

// Well tells whether the event is there, or would be.
func (o Outcome) Well() bool { return o == Published || o == Publishable || o == Already }

const (
	// near is how far apart changes may be that are read in one go.
	near = time.Minute
	// retryAtOnce and retryBytes bound a transaction, and the record that goes along.
	retryAtOnce = 100
	retryBytes  = 8 << 20
)

// Run retries dead letters, each in the oplog of its stream. Where that is none of the streams
// any more, all are asked. What it returns is in the order of the dead letters, with an error too.
func (r *LetterRetry) Run(ctx context.Context, streams []StreamOplog, letters []publisher.DeadLetter) ([]Retried, error) {
	results := make([]Retried, len(letters))
	for i := range letters {
		results[i] = untried(&letters[i])
	}
	known := func(name string) bool {
		return slices.ContainsFunc(streams, func(s StreamOplog) bool { return s.Name == name })
	}
	for _, s := range streams {
		var part []publisher.DeadLetter
		var indexes []int
		for i := range letters {
			if o := results[i].Outcome; letters[i].Stream == s.Name || (!known(letters[i].Stream) && (o == NotTried || o == NoEvent)) {
				part, indexes = append(part, letters[i]), append(indexes, i)
			}
		}
		if len(part) == 0 {
			continue
		}
		got, err := r.stream(ctx, s, part)
		for n, i := range indexes {
			results[i] = got[n]
		}
		if err != nil {
			return results, err
		}
	}
	return results, nil
}

func untried(d *publisher.DeadLetter) Retried {
	return Retried{Place: d.Place, Kind: d.Kind, Key: d.Key, Outcome: NotTried}
}

// stream retries dead letters of a stream, which are in the order of their changes. What it
// returns is in the same order, with an error too.
func (r *LetterRetry) stream(ctx context.Context, stream StreamOplog, letters []publisher.DeadLetter) (_ []Retried, err error) {
	w := &retrying{LetterRetry: r, stream: stream, letters: letters, results: make([]Retried, len(letters))}
	for i := range letters {
		w.results[i] = untried(&letters[i])
	}
	if r.Open != nil {
		if w.out, err = r.Open(ctx, stream.Name); err != nil {
			return w.results, err
		}
		defer func() {
			if !errors.Is(err, ErrUnanswered) { // it is in use, and the process ends
				w.out.Close()
			}
		}()
	}
	done, err := r.Done(ctx)
	if err != nil {
		return w.results, err
	}
	for i := range letters {
		if done(&letters[i]) {
			w.results[i].Outcome = Already
		}
	}
	for begin := 0; begin < len(letters); {
		end := begin + 1
		for end < len(letters) && Time(letters[end].At()).Sub(Time(letters[end-1].At())) <= near {
			end++
		}
		if err := w.span(ctx, begin, end); err != nil {
			return w.results, err
		}
		begin = end
	}
	return w.results, nil
}

// retrying is a LetterRetry of one stream.
type retrying struct {
	*LetterRetry
	stream  StreamOplog
	letters []publisher.DeadLetter
	results []Retried
	out     Publisher
	// batch are the events to publish next, of the dead letters with these indexes.
	batch publisher.Batch
	of    []int
	bytes int
}

// span retries the dead letters from begin to end.
func (w *retrying) span(ctx context.Context, begin, end int) error {
	var indexes []int
	for i := begin; i < end; i++ {
		if w.results[i].Outcome == NotTried {
			indexes = append(indexes, i)
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	span := watcher.Span{From: w.letters[indexes[0]].At(), UntilTime: w.letters[indexes[len(indexes)-1]].At()}
	if err := Reach(ctx, w.stream, span); err != nil {
		if errors.As(err, new(*BeyondOplogError)) {
			if len(indexes) > 1 { // the later ones may still be there
				if err := w.span(ctx, begin, indexes[0]+1); err != nil {
					return err
				}
				return w.span(ctx, indexes[0]+1, end)
			}
			w.results[indexes[0]].Outcome = Forgotten
			return nil
		}
		return err
	}
	err := w.Reader.Read(ctx, w.stream, span, func(ctx context.Context, part Part) error {
		for i := range part.Failures {
			f := &part.Failures[i]
			if n := w.find(indexes, f.Kind, &f.Change); n >= 0 && w.results[n].Outcome == NotTried {
				w.results[n].Outcome, w.results[n].Reason = StillFails, f.Reason
			}
		}
		for i := range part.Events {
			e := &part.Events[i]
			n := w.find(indexes, e.Kind, &e.Change)
			if n < 0 || w.results[n].Outcome != NotTried || slices.Contains(w.of, n) {
				continue
			}
			w.batch.Events, w.of, w.bytes = append(w.batch.Events, *e), append(w.of, n), w.bytes+e.Size()
			if len(w.of) >= retryAtOnce || w.bytes >= retryBytes {
				if err := w.flush(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil {
		err = w.flush(ctx)
	}
	for _, i := range indexes {
		if err == nil && w.results[i].Outcome == NotTried {
			w.results[i].Outcome = NoEvent
		}
	}
	return err
}

func (w *retrying) find(indexes []int, kind mapper.Kind, c *mapper.ChangeName) int {
	for _, i := range indexes {
		if w.letters[i].Is(kind, c) {
			return i
		}
	}
	return -1
}

// flush publishes the events that are gathered, together with the record of it.
func (w *retrying) flush(ctx context.Context) error {
	if len(w.of) == 0 {
		return nil
	}
	if w.out != nil {
		letters := make([]publisher.DeadLetter, len(w.of))
		for i, n := range w.of {
			letters[i] = w.letters[n]
		}
		record, err := w.Record(w.stream.Name, letters)
		if err != nil {
			return err
		}
		batch := w.batch
		if err := Answered(ctx, func(ctx context.Context) error { return w.out.Publish(ctx, &batch, record) }); err != nil {
			return err
		}
	}
	for i, n := range w.of {
		w.results[n].Outcome, w.results[n].ID = Published, w.batch.Events[i].ID
		if w.out == nil {
			w.results[n].Outcome = Publishable
		}
	}
	w.batch, w.of, w.bytes = publisher.Batch{}, nil, 0
	return nil
}
