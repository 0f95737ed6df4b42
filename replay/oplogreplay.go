package replay

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Publisher takes the events of a replay; *publisher.Detached is one.
type Publisher interface {
	Publish(ctx context.Context, batch *publisher.Batch, with ...kgo.Record) error
	Close()
}

// ErrUnanswered ends work that was interrupted while Kafka did not answer. The transaction under
// way may be committed or not.
var ErrUnanswered = errors.New("Kafka had not answered: whether the last transaction is committed is not known") //nolint:staticcheck // Kafka is a name.

// stopTimeout is how long interrupted work waits for the answer that it has asked for.
const stopTimeout = 5 * time.Second

// Answered calls publish, and waits for its end after ctx has ended too: a transaction that has
// begun ends soon. It waits for stopTimeout at most, because brokers that hang must not keep an
// interrupted command from ending. After ErrUnanswered publish may still run: nobody else may
// use its publisher and batch.
func Answered(ctx context.Context, publish func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- publish(context.WithoutCancel(ctx)) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return ErrUnanswered
	}
}

// OplogReplay publishes the events of spans of the oplog once more.
type OplogReplay struct {
	Reader *Reader
	Filter *Filter
	// Open gives the publisher of a stream; nil only counts.
	Open func(ctx context.Context, stream string) (Publisher, error)
	// First is how many events the result names.
	First int
	// AtOnce is how many streams are read at the same time; 0 means 4.
	AtOnce int
	// Advanced, if set, is called with the place that a stream has come to, by several goroutines.
	Advanced func(stream string, at bson.Timestamp, events int)

	mu     sync.Mutex
	result Result
	counts counts
}

// Result are the counts of a replay, in the form of its JSON output.
type Result struct {
	DryRun  bool           `json:"dryRun"`
	Streams []StreamResult `json:"streams"`
	// Counts are by kind, resource type and topic.
	Counts []Count `json:"counts"`
	// First are the first events of each stream, up to the number that was asked for.
	First []EventName `json:"first"`
	// Attempted says that publishing has begun: events may be in the topics after an error too.
	Attempted bool `json:"-"`
}

// StreamResult are the counts of one stream.
type StreamResult struct {
	Stream string `json:"stream"`
	// From and Until are the ends of the span, by the oplog's time.
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	// Changes were read, Events and DeadLetters published, or counted in a dry run.
	Changes     int64 `json:"changes"`
	Events      int64 `json:"events"`
	DeadLetters int64 `json:"deadLetters"`
	// Token is the resume token after the last change whose events were published or counted.
	Token bson.Raw `json:"-"`
	// Next is Token as text, for --from-token; empty if the span is done, or not begun.
	Next string `json:"next,omitempty"`
	// Done says that the whole span has been replayed.
	Done bool `json:"done"`
}

// Count counts the events of one kind, resource type and topic.
type Count struct {
	Kind     mapper.Kind `json:"kind"`
	Resource string      `json:"resource"`
	Topic    string      `json:"topic"`
	Events   int64       `json:"events"`
	// DeadLetters are changes that cannot be events.
	DeadLetters int64 `json:"deadLetters"`
}

// EventName identifies an event without its contents.
type EventName struct {
	ID       string      `json:"id"`
	Kind     mapper.Kind `json:"kind"`
	Resource string      `json:"resource"`
	Topic    string      `json:"topic"`
	Key      string      `json:"key"`
	// Changed is the oplog's time of the change or, of a backfill, when the FHIR server
	// wrote the version.
	Changed time.Time `json:"changed,omitzero"`
}

// Job is one stream with the span to read of it.
type Job struct {
	Stream StreamOplog
	Span   watcher.Span
}

const defaultAtOnce = 4

// Run replays all jobs. The result comes with an error too.
func (r *OplogReplay) Run(ctx context.Context, jobs []Job) (*Result, error) {
	r.result = Result{DryRun: r.Open == nil, Streams: make([]StreamResult, len(jobs)), Counts: []Count{}, First: []EventName{}}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(r.AtOnce, defaultAtOnce))
	for i, job := range jobs {
		r.result.Streams[i] = StreamResult{Stream: job.Stream.Name, From: Time(job.Span.From), Until: Time(job.Span.UntilTime), Token: job.Span.After}
		g.Go(func() error {
			done := &r.result.Streams[i]
			err := r.stream(ctx, job, done)
			done.close(job.Span.UntilTime, err)
			return err
		})
	}
	err := g.Wait()
	r.result.Counts = r.counts.sorted()
	return &r.result, err
}

// close sets Done, and Next if the span is not done.
func (s *StreamResult) close(until bson.Timestamp, err error) {
	at, ok := tokens.ClusterTime(s.Token)
	// A stream may have passed the end of its span before an error. A replay cannot go on from
	// a token behind the span.
	if s.Done = err == nil || (ok && at.After(until)); !s.Done {
		s.Next, _ = tokens.Text(s.Token)
	}
}

func (r *OplogReplay) attempts() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Attempted = true
}

func (r *OplogReplay) stream(ctx context.Context, job Job, done *StreamResult) (err error) {
	var p Publisher
	if r.Open != nil {
		if p, err = r.Open(ctx, job.Stream.Name); err != nil {
			return err
		}
		defer func() {
			if !errors.Is(err, ErrUnanswered) { // else publish may use it, and the process ends
				p.Close()
			}
		}()
	}
	named := 0
	return r.Reader.Read(ctx, job.Stream, job.Span, func(ctx context.Context, part Part) error {
		part.Events = slices.DeleteFunc(part.Events, func(e mapper.Event) bool { return !r.Filter.Chooses(&e) })
		part.Failures = slices.DeleteFunc(part.Failures, func(f mapper.Failure) bool { return !r.Filter.ChoosesFailure(&f) })
		if p != nil && len(part.Events)+len(part.Failures) > 0 {
			r.attempts()
			batch := &publisher.Batch{Events: part.Events, Failures: part.Failures}
			if err := Answered(ctx, func(ctx context.Context) error { return p.Publish(ctx, batch) }); err != nil {
				return err
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		done.Changes += int64(part.Changes)
		done.Events += int64(len(part.Events))
		done.DeadLetters += int64(len(part.Failures))
		done.Token = part.Token
		for i := range part.Events {
			e := &part.Events[i]
			r.counts.entry(e.Kind, e.Change, e.Topic).Events++
			if named < r.First {
				named++
				r.result.First = append(r.result.First, nameOf(e))
			}
		}
		for i := range part.Failures {
			r.counts.entry(part.Failures[i].Kind, part.Failures[i].Change, "").DeadLetters++
		}
		if r.Advanced != nil {
			r.Advanced(job.Stream.Name, part.At, len(part.Events))
		}
		return nil
	})
}

// nameOf names an event.
func nameOf(e *mapper.Event) EventName {
	return EventName{ID: e.ID, Kind: e.Kind, Resource: mapper.ResourceOf(e.Change.Collection), Topic: e.Topic, Key: string(e.Key), Changed: Time(e.Change.ClusterTime)}
}

// Time is a time of the oplog, zero for none.
func Time(t bson.Timestamp) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.Unix(int64(t.T), 0).UTC()
}

// counts are the events and dead letters by kind, resource type and topic.
type counts []*Count

// entry is the count of a kind, resource type and topic, which begins at zero.
func (t *counts) entry(kind mapper.Kind, change mapper.ChangeName, topic string) *Count {
	resource := mapper.ResourceOf(change.Collection)
	i := slices.IndexFunc(*t, func(c *Count) bool { return c.Kind == kind && c.Resource == resource && c.Topic == topic })
	if i >= 0 {
		return (*t)[i]
	}
	c := &Count{Kind: kind, Resource: resource, Topic: topic}
	*t = append(*t, c)
	return c
}

// countsOf makes counts of a stored list.
func countsOf(list []Count) counts {
	t := make(counts, len(list))
	for i := range list {
		t[i] = &list[i]
	}
	return t
}

// sorted are the counts in a fixed order.
func (t *counts) sorted() []Count {
	list := make([]Count, 0, len(*t))
	for _, c := range *t {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Topic, b.Topic))
	})
	return list
}
