// Package verify compares what MongoDB says should be in the topics with what is there,
// and publishes the events that are missing.
//
// It reads the oplog and, before that begins, the collections as replay does. Memory does
// not grow with the number of events: all that is compared is sorted on disk.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Verification compares what MongoDB says should be in the topics with what is there.
type Verification struct {
	// Streams are all streams of the installation.
	Streams []VerifiedStream
	// Client reaches the brokers. Topics are those that are looked at, with the kinds
	// of events that are asked for; Audit is where completions are on record, under Name.
	Client []kgo.Opt
	Topics map[string][]mapper.Kind
	Audit  string
	Name   string
	// Since and Until are the ends of the comparison, by the time of the change. A
	// zero Until is the streams' positions.
	Since, Until time.Time
	// MaxLag is how far before Since changes may lie whose events came after it.
	MaxLag time.Duration
	// Tolerance is how far the clocks of the FHIR server, of MongoDB and of records may
	// lie apart where collections stand in for an oplog that does not reach back.
	Tolerance time.Duration
	// Patience is how long a transaction may be open in the topics before it hangs.
	Patience time.Duration
	// Repeats says that an event may come twice by contract (at_least_once).
	Repeats bool
	// Reader reads the oplog; its Facts are for completing.
	Reader *replay.Reader
	// Dir is where large intermediate results go, under names that are gone at once.
	Dir string
	// Limit is how many examples of each fault the result holds.
	Limit int
	// Read and Changed are called with the progress, by several goroutines; Looked, if set, with how
	// much of a collection has been looked at.
	Read    func(records int64, of int64)
	Changed func(stream string, at bson.Timestamp, events int)
	Looked  func(collection string, documents, of int64)
	// Begins, if set, is called with the span of a stream's oplog that will be read.
	Begins func(stream string, span watcher.Span)
	// Waits, if set, is called when an open transaction is waited for.
	Waits func(topic string, partition int32)
}

// VerifiedStream is one stream with its position and its collections.
type VerifiedStream struct {
	replay.StreamOplog
	// Position is the stream's stored position: changes after it may be published or
	// not. A zero one bounds nothing.
	Position resumetoken.Position
	// Asked says that the stream's events are asked for. Those of others are known.
	Asked bool
	// Current are the collections of the stream's feeds, History those of the history
	// that there is of them: they stand in for an oplog that does not reach back.
	Current, History []replay.Collection
}

const (
	// clockMargin is how far the clocks of MongoDB and of the records' timestamps may
	// differ, and how late an event usually comes.
	clockMargin = time.Minute
	// nearMargin is how far before the span the oplog is read at once.
	nearMargin = 2 * time.Minute
)

// verification is one run.
type verification struct {
	*Verification
	topics  []string
	compare *comparison
	report  *reporter
	begins  []begin        // of each stream
	spans   []watcher.Span // of each stream
}

// Run compares, and publishes the missing events if a completion is given.
func (v *Verification) Run(ctx context.Context, completion *Completion) (result *Result, err error) {
	run := &verification{Verification: v}
	for topic := range v.Topics {
		run.topics = append(run.topics, topic)
	}
	slices.Sort(run.topics)
	run.report = newReporter(run.topics, v.Topics, v.Limit)
	run.compare = newComparison(v.Dir, run.topics)
	defer func() {
		if e := run.compare.close(); e != nil && err == nil {
			err = fmt.Errorf("remove intermediate results: %w", e)
		}
	}()
	if completion != nil {
		defer completion.release()
		if err := completion.acquire(ctx, v.Streams); err != nil {
			return nil, err
		}
	}
	if err := run.gather(ctx); err != nil {
		return nil, err
	}
	if err := run.compare.compare(run.report); err != nil {
		return nil, err
	}
	if err := run.secondLook(ctx); err != nil {
		return nil, err
	}
	if completion != nil {
		if err := run.complete(ctx, completion); err != nil {
			return nil, err
		}
		run.report.beyondCompletion(v.Repeats)
	}
	return run.report.finish(v.Repeats), nil
}

// gather notes all entries. The order matters while streams run: positions
// were read first, so all up to them is in the topics by now; and whatever is in the
// topics by now comes from changes before the newest times, which are read last.
func (v *verification) gather(ctx context.Context) error {
	margin := clockMargin
	for _, s := range v.Streams {
		b, err := v.begin(ctx, s)
		if err != nil {
			return err
		}
		if b.scanned {
			margin = max(margin, v.Tolerance)
		}
		v.begins = append(v.begins, b)
	}
	reader, err := publisher.OpenTopics(ctx, v.Client, v.topics, v.Since.Add(-margin), publisher.Patience{Limit: v.Patience, Waits: v.Waits})
	if err != nil {
		return refusedByKafka(err)
	}
	defer reader.Close()
	for i, s := range v.Streams {
		now, err := s.Oplog.Now(ctx)
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
		v.spans = append(v.spans, watcher.Span{From: v.begins[i].from, UntilTime: now})
		if v.Begins != nil {
			v.Begins(s.Name, v.spans[i])
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return refusedByKafka(v.readTopics(ctx, reader)) })
	g.Go(func() error { return refusedByKafka(v.readCompleted(ctx)) })
	streams := make([]StreamResult, len(v.Streams))
	g.Go(func() error {
		for i := range v.Streams {
			if err := v.readOplog(ctx, i, &streams[i]); err != nil {
				return err
			}
			if !v.begins[i].scanned {
				continue
			}
			if err := v.scan(ctx, v.Streams[i], v.spans[i], &streams[i]); err != nil {
				return fmt.Errorf("stream %s: %w", v.Streams[i].Name, err)
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	for i, s := range v.Streams {
		if v.begins[i].scanned {
			v.tellScanned(i, streams[i].Scanned)
		}
		v.tellPosition(i)
		if s.Asked {
			v.report.result.Streams = append(v.report.result.Streams, streams[i])
		}
		if n := streams[i].DeadLetters; n > 0 {
			v.report.note(fmt.Sprintf("stream %s: of its changes %s cannot be made, which are dead letters and were not looked for", s.Name, terminal.Counted(n, "event")))
		}
	}
	return nil
}

func clusterTime(t time.Time) bson.Timestamp { return bson.Timestamp{T: uint32(t.Unix())} }

// readOplog notes the events of a stream.
func (v *verification) readOplog(ctx context.Context, stream int, done *StreamResult) error {
	s, span := v.Streams[stream], v.spans[stream]
	since, until := packTime(clusterTime(v.Since)), packTime(span.UntilTime)
	if !v.Until.IsZero() {
		until = min(until, packTime(replay.Before(clusterTime(v.Until))))
	}
	*done = StreamResult{Stream: s.Name, Since: v.Since, OplogSince: replay.Time(span.From), Until: unpackTime(until)}
	if until < packTime(span.UntilTime) {
		done.Until = v.Until
	}
	if !v.begins[stream].scanned {
		done.OplogSince = v.Since
	}
	if at := packTime(s.Position.ClusterTime); at > 0 && at < until {
		done.Until = unpackTime(at)
	}
	ordinal := uint64(0)
	return v.idsOf(ctx, stream, span, func(p replay.Part) error {
		done.Changes += int64(p.Changes)
		for i := range p.Failures {
			if at := packTime(p.Failures[i].Change.ClusterTime); at >= since && at <= until && s.Asked {
				done.DeadLetters++
			}
		}
		for i := range p.Events {
			e := &p.Events[i]
			ordinal++
			wanted := s.Asked && (s.Position.IsZero() || !tokens.After(e.Change.Token, s.Position.Token))
			at := packTime(e.Change.ClusterTime)
			class := possible
			if wanted && at >= since && at <= until {
				switch {
				case v.tooLargeNow(e):
					done.DeadLetters++ // or, of before the limit was lowered, there
				case !e.Unsure:
					class = required
				}
			}
			if err := v.add(e, s.Name, class, ordinal, at); err != nil {
				return err
			}
		}
		v.Changed(s.Name, p.At, len(p.Events))
		return nil
	})
}

// idsOf reads a span for its ids.
func (v *verification) idsOf(ctx context.Context, stream int, span watcher.Span, each func(replay.Part) error) error {
	reader := v.reader(stream).IDsOnly()
	return reader.Read(ctx, v.Streams[stream].StreamOplog, span, func(_ context.Context, p replay.Part) error { return each(p) })
}

// tooLargeNow tells that an event would be a dead letter if its change came now. Its topic
// may have taken more when it did.
func (v *verification) tooLargeNow(e *mapper.Event) bool {
	return e.Size() > v.Reader.MaxEventBytes(e.Topic)
}

// reader is how a stream's oplog is read.
func (v *verification) reader(stream int) replay.Reader {
	oplog := *v.Reader
	if v.begins[stream].scanned {
		oplog.SeenWindow = 0 // there is no window before the oplog
	}
	return oplog
}

// add notes an event from the oplog or a collection.
func (v *verification) add(e *mapper.Event, stream string, class class, place, at uint64) error {
	topic, kinds := slices.Index(v.topics, e.Topic), v.Topics[e.Topic]
	if topic < 0 {
		return nil // not asked for
	}
	id, err := uuid.Parse(e.ID)
	if err != nil {
		return fmt.Errorf("event id %q: %w", e.ID, err)
	}
	if !slices.Contains(kinds, e.Kind) {
		class = possible
	}
	return v.compare.add(&entry{
		id: id, topic: uint8(topic), class: class, place: place, key: hashKey(stream, e.Key), at: at, partition: int32(uint32(recordKey(e.Key))),
		origin: v.compare.origin(eventOrigin{Kind: string(e.Kind), Namespace: e.Change.Database + "." + e.Change.Collection, Profile: e.Profile()}),
	})
}

// refusedByKafka makes an error that an operator must see of a missing right.
func refusedByKafka(err error) error {
	if errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.GroupAuthorizationFailed) {
		return &publisher.ConfigurationError{Err: fmt.Errorf("%w (the user needs Read and Describe on the topics of events and on the audit topic)", err)}
	}
	return err
}
