package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

// Backfill publishes the documents of collections, beside the live streams. Its state is a
// position of its own, which it commits with the events: an interrupted backfill goes
// on where it was.
type Backfill struct {
	// Stream is the name of its position.
	Stream      string
	Scanner     *Scanner
	Collections []Collection
	// Documents is the approximate number of documents in all collections.
	Documents int64
	Period    Period
	// Translate makes the translation of an attempt.
	Translate func(maxEventBytes func(topic string) int) *daemon.Translation
	// Open makes the publisher of an attempt; nil only counts.
	Open func() (daemon.Publisher, error)
	// MaxEventBytes is used where nothing is opened.
	MaxEventBytes func(topic string) int
	// Limit waits until n more events may be published.
	Limit func(ctx context.Context, n int) error
	// Stop holds the kinds for which a failure ends the backfill.
	Stop map[mapper.Kind]bool
	// First is how many events the result names.
	First int
	// Restart begins anew: the stored state is replaced before anything is published.
	Restart bool
	// Advanced, if set, is called with the numbers of documents that all runs together have
	// looked at, and of events.
	Advanced func(scanned, events int64)
	// Interrupted, if set, is called with an error after which the backfill goes on.
	Interrupted func(error)

	result BackfillResult
	// restarted says that the stored state is of this run.
	restarted bool
}

// BackfillResult are the counts of a backfill, in the form of its JSON output.
type BackfillResult struct {
	DryRun bool `json:"dryRun"`
	// Done says that all is published, Already that an earlier run had published it.
	Done    bool `json:"done"`
	Already bool `json:"already"`
	// Resumed says that an interrupted run went on.
	Resumed bool `json:"resumed"`
	// Scanned documents were looked at, and Events and DeadLetters published, by all
	// runs together.
	Scanned     int64     `json:"scanned"`
	Events      int64     `json:"events"`
	DeadLetters int64     `json:"deadLetters"`
	Began       time.Time `json:"began"`
	// Seconds is how long this run took, PerSecond the events of a second of it.
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
	// Counts are of all runs together too, by kind, resource type and topic.
	Counts []Count `json:"counts"`
	// First are the first events, up to the number that was asked for.
	First []EventName `json:"first"`
	// Attempted says that this run has begun to publish: events may be in the topics after an
	// error too.
	Attempted bool `json:"-"`
}

// backfillAttempts is how often in a row a backfill goes on after an error without
// getting any further.
const backfillAttempts = 5

// Run publishes until all is done or ctx ends. The result, which counts the published events,
// comes with an error too.
func (b *Backfill) Run(ctx context.Context) (*BackfillResult, error) {
	began, before := time.Now(), int64(-1)
	b.result = BackfillResult{DryRun: b.Open == nil, Counts: []Count{}, First: []EventName{}}
	var err error
	for failed := 0; failed < backfillAttempts; {
		at := b.result.Scanned
		err = b.attempt(ctx, &before)
		if err == nil || ctx.Err() != nil || b.final(err) {
			break
		}
		if failed++; b.result.Scanned > at {
			failed = 0
		}
		if b.Interrupted != nil {
			b.Interrupted(err)
		}
		if wait.Sleep(ctx, time.Duration(failed)*time.Second) != nil {
			break
		}
	}
	b.result.Seconds = time.Since(began).Seconds()
	b.result.PerSecond = float64(b.result.Events-max(before, 0)) / b.result.Seconds
	return &b.result, err
}

// final tells whether another attempt would meet the same error.
func (b *Backfill) final(err error) bool {
	return b.Open == nil || isRefusal(err) || errors.Is(err, resumetoken.ErrFenced) ||
		errors.As(err, new(*daemon.PolicyError)) || errors.As(err, new(*publisher.ConfigurationError))
}

// attempt is one life of the publisher. before becomes the events that earlier runs
// have published.
func (b *Backfill) attempt(ctx context.Context, before *int64) (err error) {
	a := &backfilling{Backfill: b, state: backfillState{Began: time.Now().UTC(), Since: b.Period.Since, Until: b.Period.Until}}
	limit := b.MaxEventBytes
	if b.Open != nil {
		if a.publisher, err = b.Open(); err != nil {
			return err
		}
		defer func() {
			if errors.Is(err, ErrUnanswered) {
				return // publish may use the publisher, and the process ends
			}
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			if e := a.publisher.Close(closing); e != nil && err == nil {
				err = fmt.Errorf("close publisher: %w", e)
			}
		}()
		if err := a.resume(ctx, *before < 0); err != nil {
			return err
		}
		limit = a.publisher.MaxEventBytes
	}
	a.show()
	if *before < 0 {
		*before = a.state.Events
	}
	if a.state.Done {
		b.result.Already = *before == a.state.Events
		return nil
	}
	a.translation = b.Translate(limit)
	for _, s := range a.left() {
		if err := a.scan(ctx, s); err != nil {
			return err
		}
	}
	a.state.Done = true
	if err := a.commit(ctx, &mapper.Output{}); err != nil {
		return err
	}
	a.show()
	return nil
}

// backfilling is one attempt.
type backfilling struct {
	*Backfill
	publisher   daemon.Publisher // nil: only count
	translation *daemon.Translation
	state       backfillState
	saved       time.Time
	counts      counts
	// written is when the versions of a page were written, by their documents' ids, as
	// long as events are named.
	written map[string]time.Time
}

// resume takes up the stored state, or with Restart replaces it.
func (a *backfilling) resume(ctx context.Context, first bool) error {
	position, err := a.publisher.Acquire(ctx)
	if errors.Is(err, resumetoken.ErrNone) {
		a.restarted = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("acquire the backfill's state: %w", err)
	}
	if a.Restart && !a.restarted {
		// The new state is stored at once: neither an attempt after this one nor another run
		// may take up the former state.
		if err := a.commit(ctx, &mapper.Output{}); err != nil {
			return err
		}
		a.restarted = true
		return nil
	}
	if position.State == nil {
		return errors.New("read the backfill's state: a stream's position is stored in its place")
	}
	var state backfillState
	if err := bson.Unmarshal(position.State.Document, &state); err != nil {
		return fmt.Errorf("read the backfill's state: %w", err)
	}
	a.state = state
	a.counts = countsOf(state.Counts)
	if first {
		a.result.Resumed = !state.Done
	}
	return nil
}

// left are the collections that are not done.
func (a *backfilling) left() []Collection {
	i := slices.IndexFunc(a.Collections, func(s Collection) bool { return s.Name() == a.state.Step })
	if i < 0 {
		return a.Collections
	}
	return a.Collections[i:]
}

// saveEvery is how often the state is stored while nothing is found.
const saveEvery = 2 * time.Second

func (a *backfilling) scan(ctx context.Context, s Collection) error {
	if a.state.Step != s.Name() {
		a.state.Step, a.state.After = s.Name(), bson.RawValue{}
	}
	// The period is that of the first run: "the last 3 days" would begin later in this one.
	return a.Scanner.Scan(ctx, s, Period{Since: a.state.Since, Until: a.state.Until}, Cursor{a.state.After}, func(ctx context.Context, page Page) error {
		a.writtenOf(page.Changes)
		var out mapper.Output
		if err := a.translation.AppendChanges(ctx, page.Changes, &out); err != nil {
			return err
		}
		for _, f := range out.Failures {
			if a.Stop[f.Kind] {
				return &daemon.PolicyError{Failure: f}
			}
		}
		if a.Limit != nil {
			if err := a.Limit(ctx, len(out.Events)); err != nil {
				return err
			}
		}
		a.state.After = page.After.RawValue
		a.state.Scanned += page.Scanned
		if len(out.Events)+len(out.Failures) > 0 || time.Since(a.saved) > saveEvery {
			if err := a.commit(ctx, &out); err != nil {
				return err
			}
		}
		a.show()
		// The page is committed. After an interruption no other one is begun.
		return context.Cause(ctx)
	})
}

// commit publishes events with the state after them.
func (a *backfilling) commit(ctx context.Context, out *mapper.Output) error {
	a.state.Events += int64(len(out.Events))
	a.state.DeadLetters += int64(len(out.Failures))
	a.count(out)
	if a.publisher != nil {
		document, err := bson.Marshal(a.state)
		if err != nil {
			return fmt.Errorf("store the backfill's state: %w", err)
		}
		position := resumetoken.Position{Stream: a.Stream, State: &resumetoken.State{Document: document}}
		batch := &publisher.Batch{Events: out.Events, Failures: out.Failures, Position: position}
		a.result.Attempted = a.result.Attempted || len(out.Events)+len(out.Failures) > 0
		if err := Answered(ctx, func(ctx context.Context) error { return a.publisher.Commit(ctx, batch) }); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	a.saved = time.Now()
	for i := range out.Events {
		if len(a.result.First) == a.First {
			break
		}
		name := nameOf(&out.Events[i])
		name.Changed = a.written[string(out.Events[i].Change.DocumentKey)]
		a.result.First = append(a.result.First, name)
	}
	return nil
}

// show puts the state into the result.
func (a *backfilling) show() {
	r, s := &a.result, a.state
	r.Scanned, r.Events, r.DeadLetters, r.Began, r.Done = s.Scanned, s.Events, s.DeadLetters, s.Began, s.Done
	r.Counts = a.counts.sorted()
	if a.Advanced != nil {
		a.Advanced(s.Scanned, s.Events)
	}
}

// backfillState is the stored state of a backfill.
type backfillState struct {
	Step        string        `bson:"collection"`
	After       bson.RawValue `bson:"after,omitempty"`
	Scanned     int64         `bson:"scanned"`
	Events      int64         `bson:"events"`
	DeadLetters int64         `bson:"deadLetters"`
	Began       time.Time     `bson:"began"`
	Since       time.Time     `bson:"since"`
	Until       time.Time     `bson:"until"`
	Done        bool          `bson:"done"`
	// Counts are the events and dead letters by kind, resource type and topic.
	Counts []Count `bson:"counts"`
}

// BackfillProgress is how far a backfill has come that any process may carry out.
type BackfillProgress struct {
	// Collection is the one that is read, Documents counts those of all that were read.
	Collection  string `json:"collection"`
	Documents   int64  `json:"documents"`
	Events      int64  `json:"events"`
	DeadLetters int64  `json:"deadLetters"`
}

// ProgressOf reads the state of a backfill out of its stored position.
func ProgressOf(stored resumetoken.Position) (BackfillProgress, error) {
	var s backfillState
	if stored.State == nil {
		return BackfillProgress{}, errors.New("read the backfill's state: none is stored")
	}
	if err := bson.Unmarshal(stored.State.Document, &s); err != nil {
		return BackfillProgress{}, fmt.Errorf("read the backfill's state: %w", err)
	}
	return BackfillProgress{Collection: s.Step, Documents: s.Scanned, Events: s.Events, DeadLetters: s.DeadLetters}, nil
}

// count adds events and dead letters to the state's counts.
func (a *backfilling) count(out *mapper.Output) {
	for i := range out.Events {
		e := &out.Events[i]
		a.counts.entry(e.Kind, e.Change, e.Topic).Events++
	}
	for i := range out.Failures {
		a.counts.entry(out.Failures[i].Kind, out.Failures[i].Change, "").DeadLetters++
	}
	a.state.Counts = a.counts.sorted()
}

// writtenOf notes when a page's versions were written, as long as events are named.
func (a *backfilling) writtenOf(changes []mapper.Change) {
	if len(a.result.First) == a.First {
		return
	}
	a.written = make(map[string]time.Time, len(changes))
	for i := range changes {
		if at, ok := changes[i].Written(); ok {
			a.written[string(changes[i].Name.DocumentKey)] = at
		}
	}
}
