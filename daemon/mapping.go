package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// mapping is the middle stage of one attempt: chunks to batches.
type mapping struct {
	*Stream
	publisher Publisher
	// position is the position after the last batch.
	position resumetoken.Position
	seen     *lookup.Seen
	// changes is used again for each batch; events keep only what it points to.
	changes []mapper.Change
}

// run makes batches of chunks until chunks is closed. A batch that comes with an
// error is still to be committed.
func (m *mapping) run(ctx context.Context, chunks <-chan watcher.Chunk, batches chan<- *publisher.Batch) error {
	for first := range chunks {
		raw, token := m.gather(first, chunks)
		began := time.Now()
		m.progress.mapping(began)
		b, err := m.batch(ctx, raw, token)
		m.progress.mapping(time.Time{})
		if b != nil {
			b.Changes, b.Read, b.Map, b.Mapped = len(raw), first.Read, began, time.Now()
			m.position = b.Position
			select {
			case batches <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gather takes what else has been read while the batch before was worked on.
func (m *mapping) gather(first watcher.Chunk, chunks <-chan watcher.Chunk) ([]bson.Raw, bson.Raw) {
	changes, token, size := first.Changes, first.Token, first.Size
	for len(changes) < m.opts.MaxRecords && size < m.opts.MaxBytes {
		select {
		case c, ok := <-chunks:
			if !ok {
				return changes, token
			}
			changes, token, size = append(changes, c.Changes...), c.Token, size+c.Size
		default:
			return changes, token
		}
	}
	return changes, token
}

// batch makes one batch. With the policy stop a failure ends it right before the
// failed change, and the batch so far, if there is one, comes with a *PolicyError.
func (m *mapping) batch(ctx context.Context, raw []bson.Raw, token bson.Raw) (*publisher.Batch, error) {
	m.changes = slices.Grow(m.changes[:0], len(raw))[:len(raw)]
	for i := range raw {
		m.mapper.Read(raw[i], &m.changes[i])
	}
	facts, err := m.facts.find(ctx, m.changes, m.seen)
	if err != nil {
		return nil, refused(fmt.Errorf("look facts up: %w", err))
	}
	out := mapper.Output{Events: make([]mapper.Event, 0, len(m.changes))}
	for i := range m.changes {
		c := &m.changes[i]
		m.noteLifecycle(c)
		events, failures := len(out.Events), len(out.Failures)
		if f := facts.of(i); !f.repeated && !Published(m.position.Published, raw[i]) {
			m.mapper.Append(c, f.Facts, &out)
			if err := m.limitsHold(ctx, out.Events[events:]); err != nil {
				return nil, err
			}
			tooLarge(m.publisher.MaxEventBytes, events, &out)
		}
		if stop := m.stopping(out.Failures[failures:]); stop != nil {
			if i == 0 {
				return nil, stop
			}
			last := m.changes[i-1].Source
			return &publisher.Batch{
				Events: out.Events[:events], Failures: out.Failures[:failures],
				Position: m.after(last.Token, m.changes[:i]),
			}, stop
		}
	}
	return &publisher.Batch{Events: out.Events, Failures: out.Failures, Position: m.after(token, m.changes)}, nil
}

// after is the position of a token that follows changes.
func (m *mapping) after(token bson.Raw, changes []mapper.Change) resumetoken.Position {
	before := m.position
	if n := len(changes); n > 0 {
		before.ClusterTime = changes[n-1].Source.ClusterTime
		before.WallTime = time.UnixMilli(changes[n-1].WallTime).UTC()
	}
	return m.Stream.position(token, before)
}

// limitsHold makes sure, before events that are too large for their topic become dead
// letters, that its limit is what it was when the attempt began. An operator may have raised
// it since; a new attempt has clients that know.
func (m *mapping) limitsHold(ctx context.Context, events []mapper.Event) error {
	for i := range events {
		known := m.publisher.MaxEventBytes(events[i].Topic)
		if events[i].Size() <= known || m.opts.MaxEventBytes == nil {
			continue
		}
		now, err := m.opts.MaxEventBytes(ctx, events[i].Topic)
		if err != nil {
			return err
		}
		if now != known {
			return fmt.Errorf("%w: %s takes %d bytes, it took %d", errLimitChanged, events[i].Topic, now+publisher.Framing, known+publisher.Framing)
		}
	}
	return nil
}

// tooLarge turns events that their topic does not take into failures.
func tooLarge(maxEventBytes func(topic string) int, from int, out *mapper.Output) {
	kept := from
	for _, e := range out.Events[from:] {
		if size, limit := e.Size(), maxEventBytes(e.Topic); size > limit {
			out.Failures = append(out.Failures, mapper.Failure{
				Kind: e.Kind, Source: e.Source,
				Reason: fmt.Sprintf("the event has %d bytes with its framing, topic %s takes %d (the lower of its max.message.bytes and kafka.max_record_bytes)",
					size+publisher.Framing, e.Topic, limit+publisher.Framing),
			})
			continue
		}
		out.Events[kept] = e
		kept++
	}
	out.Events = out.Events[:kept]
}

func (m *mapping) stopping(failures []mapper.Failure) *PolicyError {
	for _, f := range failures {
		if m.opts.Stop[f.Kind] {
			return &PolicyError{Failure: f}
		}
	}
	return nil
}
