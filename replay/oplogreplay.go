package replay

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Publisher is where events go once more; *publisher.Detached is one.
type Publisher interface {
	Publish(ctx context.Context, batch *publisher.Batch, with ...kgo.Record) error
	Close()
}

// OplogReplay publishes what a span of the oplog says once more.
type OplogReplay struct {
	Oplog  *Oplog
	Filter *Filter
	// Open gives the publisher of a stream; nil only counts.
	Open func(ctx context.Context, stream string) (Publisher, error)
	// First is how many events the result names.
	First int
	// AtOnce is how many streams are read at the same time; 0 means 4.
	AtOnce int
	// Advanced, if set, is told how far a stream has come, by several goroutines.
	Advanced func(stream string, at bson.Timestamp, events int)

	mu     sync.Mutex
	result ReplayResult
	tally  tally
}

// ReplayResult is what a replay has done, in the form of its JSON output.
type ReplayResult struct {
	DryRun  bool           `json:"dryRun"`
	Streams []ReplayStream `json:"streams"`
	// Counts are by kind, resource type and topic.
	Counts []ReplayCount `json:"counts"`
	// First are the first events of each stream, up to the number that was asked for.
	First []EventName `json:"first"`
	// Attempted says that publishing was begun: after an error, too, something may be there.
	Attempted bool `json:"-"`
}

// ReplayStream is what was read of one stream.
type ReplayStream struct {
	Stream string `json:"stream"`
	// From and Until are the ends of the span, by the oplog's time.
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	// Changes were read, Events and DeadLetters published, or counted in a dry run.
	Changes     int64 `json:"changes"`
	Events      int64 `json:"events"`
	DeadLetters int64 `json:"deadLetters"`
	// Token is the resume token after the last change that is done with.
	Token bson.Raw `json:"-"`
	// Next is the same for --from-token; empty when the span is done, or not begun.
	Next string `json:"next,omitempty"`
	// Done says that the whole span has been replayed.
	Done bool `json:"done"`
}

// ReplayCount counts the events of one kind, resource type and topic.
type ReplayCount struct {
	Kind     mapper.Kind `json:"kind"`
	Resource string      `json:"resource"`
	Topic    string      `json:"topic"`
	Events   int64       `json:"events"`
	// DeadLetters are changes that cannot be events.
	DeadLetters int64 `json:"deadLetters"`
}

// EventName tells which event it is, and nothing of its contents.
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
	Stream Stream
	Span   watcher.Span
}

const defaultAtOnce = 4

// Run replays all jobs and returns what was done, also with an error.
func (r *OplogReplay) Run(ctx context.Context, jobs []Job) (*ReplayResult, error) {
	r.result = ReplayResult{DryRun: r.Open == nil, Streams: make([]ReplayStream, len(jobs)), Counts: []ReplayCount{}, First: []EventName{}}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(r.AtOnce, defaultAtOnce))
	for i, job := range jobs {
		r.result.Streams[i] = ReplayStream{Stream: job.Stream.Name, From: timeOf(job.Span.From), Until: timeOf(job.Span.UntilTime), Token: job.Span.After}
		g.Go(func() error {
			done := &r.result.Streams[i]
			err := r.stream(ctx, job, done)
			done.close(job.Span.UntilTime, err)
			return err
		})
	}
	err := g.Wait()
	r.result.Counts = r.tally.sorted()
	return &r.result, err
}

// close tells whether the span is done, and from where to go on if it is not.
func (s *ReplayStream) close(until bson.Timestamp, err error) {
	at, ok := resumetoken.ClusterTime(s.Token)
	// A stream that ends in an error may have come to its end all the same, and a token
	// behind that is none to go on from.
	if s.Done = err == nil || (ok && at.After(until)); !s.Done {
		s.Next, _ = s.Token.Lookup("_data").StringValueOK()
	}
}

func (r *OplogReplay) attempts() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Attempted = true
}

func (r *OplogReplay) stream(ctx context.Context, job Job, done *ReplayStream) error {
	var p Publisher
	if r.Open != nil {
		var err error
		if p, err = r.Open(ctx, job.Stream.Name); err != nil {
			return err
		}
		defer p.Close()
	}
	named := 0
	return r.Oplog.Read(ctx, job.Stream, job.Span, func(ctx context.Context, part Part) error {
		part.Events = slices.DeleteFunc(part.Events, func(e mapper.Event) bool { return !r.Filter.Chooses(&e) })
		part.Failures = slices.DeleteFunc(part.Failures, func(f mapper.Failure) bool { return !r.Filter.ChoosesFailure(&f) })
		if p != nil && len(part.Events)+len(part.Failures) > 0 {
			r.attempts()
			if err := p.Publish(ctx, &publisher.Batch{Events: part.Events, Failures: part.Failures}); err != nil {
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
			r.tally.of(e.Kind, e.Source, e.Topic).Events++
			if named < r.First {
				named++
				r.result.First = append(r.result.First, NameOf(e))
			}
		}
		for i := range part.Failures {
			r.tally.of(part.Failures[i].Kind, part.Failures[i].Source, "").DeadLetters++
		}
		if r.Advanced != nil {
			r.Advanced(job.Stream.Name, part.At, len(part.Events))
		}
		return nil
	})
}

// NameOf names an event.
func NameOf(e *mapper.Event) EventName {
	return EventName{ID: e.ID, Kind: e.Kind, Resource: ResourceOf(e.Source), Topic: e.Topic, Key: string(e.Key), Changed: timeOf(e.Source.ClusterTime)}
}

// timeOf is a time of the oplog, zero for none.
func timeOf(t bson.Timestamp) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.Unix(int64(t.T), 0).UTC()
}
