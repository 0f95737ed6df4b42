package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// Completion publishes the missing events (verify --repair).
type Completion struct {
	// Open gives the publisher of a stream. If its transactions have an id that is the
	// same for each completion of the stream, a later one fences one that is under way:
	// the events that the earlier one has published were committed before the later one
	// reads the topics, or are not committed at all, so nothing is published twice.
	Open func(ctx context.Context, stream string) (replay.Publisher, error)
	// Actor is the person or program that asked for it, for the audit.
	Actor string
	// Advanced, if set, is called with the number of events that are published, of so many
	// missing ones; first with none, right before any is published.
	Advanced func(events, of int64)

	publishers map[string]replay.Publisher
	events     int64 // that are published
}

// acquire opens the publishers, before anything is read of the topics.
func (c *Completion) acquire(ctx context.Context, streams []VerifiedStream) error {
	c.publishers = map[string]replay.Publisher{}
	for _, s := range streams {
		if !s.Asked {
			continue
		}
		p, err := c.Open(ctx, s.Name)
		if err != nil {
			return fmt.Errorf("repair: %w", err)
		}
		c.publishers[s.Name] = p
	}
	return nil
}

func (c *Completion) release() {
	for _, p := range c.publishers {
		p.Close()
	}
}

// completionBatch bounds the events of one transaction, whose ids the audit record names.
const completionBatch = 1000

// missingEvents are missing events, sorted by id, and those that are published meanwhile.
type missingEvents struct {
	entries []entry
	done    []bool
}

// complete publishes the missing events from the collections and the oplog. Every
// transaction of them is on record in the audit topic, by the same transaction.
func (v *verification) complete(ctx context.Context, c *Completion) error {
	return inBlocks(v.compare.missing, func(entries []entry) error {
		missing := missingEvents{entries, make([]bool, len(entries))}
		for i, s := range v.Streams {
			if !s.Asked {
				continue
			}
			publish := func(ctx context.Context, events []mapper.Event) error {
				return v.publish(ctx, c, s.Name, events, missing)
			}
			if err := v.completeStream(ctx, i, missing, publish); err != nil {
				return fmt.Errorf("repair: %w", err)
			}
		}
		return nil
	})
}

func (v *verification) completeStream(ctx context.Context, stream int, missing missingEvents, publish func(context.Context, []mapper.Event) error) error {
	if v.begins[stream].scanned {
		if err := v.completeScanned(ctx, stream, missing, publish); err != nil {
			return err
		}
	}
	reader := v.reader(stream)
	return reader.Read(ctx, v.Streams[stream].StreamOplog, v.spans[stream], func(ctx context.Context, part replay.Part) error { return publish(ctx, part.Events) })
}

// publish publishes those of a stream's events that are missing.
func (v *verification) publish(ctx context.Context, c *Completion, stream string, events []mapper.Event, missing missingEvents) error {
	events = slices.DeleteFunc(events, func(e mapper.Event) bool {
		i := v.find(&e, missing)
		if i >= 0 {
			missing.done[i] = true
		}
		return i < 0
	})
	for batch := range slices.Chunk(events, completionBatch) {
		record, err := v.record(c, stream, batch)
		if err != nil {
			return err
		}
		if c.events == 0 && c.Advanced != nil {
			c.Advanced(0, v.compare.missing.count)
		}
		err = replay.Answered(ctx, func(ctx context.Context) error {
			return c.publishers[stream].Publish(ctx, &publisher.Batch{Events: batch}, record)
		})
		if errors.Is(err, replay.ErrUnanswered) {
			delete(c.publishers, stream) // it is in use, and the process ends
			return err
		}
		if err != nil {
			return overtaken(stream, c.events, err)
		}
		for i := range batch {
			v.report.result.Topics[slices.Index(v.topics, batch[i].Topic)].Completed++
		}
		c.events += int64(len(batch))
		if c.Advanced != nil {
			c.Advanced(c.events, v.compare.missing.count)
		}
	}
	return nil
}

// overtaken explains to a completion that a later one has fenced it.
func overtaken(stream string, published int64, err error) error {
	if !resumetoken.LostTransactions(err) {
		return err
	}
	reason := new(kerr.Error)
	_ = errors.As(err, &reason) // there is one: that is how a fence shows
	return fmt.Errorf("another verify --repair of stream %s has begun meanwhile and publishes what is still missing; "+
		"or a transaction took longer than kafka.transaction_timeout (%s). This one has published %s: verify again", stream, reason.Message, terminal.Counted(published, "event"))
}

// find is the place of an event among the missing ones that are not published yet, negative
// if it is none of them.
func (v *verification) find(e *mapper.Event, missing missingEvents) int {
	id, err := uuid.Parse(e.ID)
	if err != nil {
		return -1
	}
	topic := slices.Index(v.topics, e.Topic)
	for i, ok := find(missing.entries, id); ok && i < len(missing.entries) && missing.entries[i].id == id; i++ {
		if !missing.done[i] && int(missing.entries[i].topic) == topic {
			return i
		}
	}
	return -1
}

// record is the audit record of events that are published.
func (v *verification) record(c *Completion, stream string, events []mapper.Event) (kgo.Record, error) {
	ids := make([]string, len(events))
	for i := range events {
		ids[i] = events[i].ID
	}
	return publisher.AuditRecord{
		Name: v.Name, Stream: stream, Action: publisher.AuditCompleted, Actor: c.Actor,
		Details: map[string]any{"since": v.Since.Format(time.RFC3339), "events": len(ids), "ids": ids},
	}.Kafka(v.Audit)
}

// readCompleted notes the events that completions have published: they come later than
// their neighbours.
func (v *verification) readCompleted(ctx context.Context) error {
	reader, err := publisher.OpenTopics(ctx, v.Client, []string{v.Audit}, v.Since.Add(-clockMargin), publisher.Patience{Limit: v.Patience})
	if err != nil {
		return err
	}
	defer reader.Close()
	return reader.Each(ctx, func(r *kgo.Record) error {
		var record struct {
			Name    string                `json:"name"`
			Action  publisher.AuditAction `json:"action"`
			Details struct {
				IDs []uuid.UUID `json:"ids"`
			} `json:"details"`
		}
		if json.Unmarshal(r.Value, &record) != nil || record.Name != v.Name || record.Action != publisher.AuditCompleted {
			return nil // of something else
		}
		for _, id := range record.Details.IDs {
			for topic := range v.topics {
				if err := v.compare.add(&entry{id: id, topic: uint8(topic), class: completed}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
