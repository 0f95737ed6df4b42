package replay

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
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Repair publishes missing events.
type Repair struct {
	// Open gives the publisher of a stream. If its transactions have an id that is the
	// same for each repair of the stream, a later repair fences one that is under way:
	// what that has published was committed before the later one reads the topics, or
	// is not committed at all, so nothing is published twice.
	Open func(ctx context.Context, stream string) (Publisher, error)
	// Actor is who has it done, for the audit.
	Actor string
	// Published, if set, is told how many events of how many are there again; first of none,
	// right before any is published.
	Published func(events, of int64)

	publishers map[string]Publisher
}

// acquire opens the publishers, before anything is read of the topics.
func (r *Repair) acquire(ctx context.Context, streams []VerifiedStream) error {
	r.publishers = map[string]Publisher{}
	for _, s := range streams {
		if !s.Asked {
			continue
		}
		p, err := r.Open(ctx, s.Name)
		if err != nil {
			return fmt.Errorf("repair: %w", err)
		}
		r.publishers[s.Name] = p
	}
	return nil
}

func (r *Repair) release() {
	for _, p := range r.publishers {
		p.Close()
	}
}

// repairBatch bounds the events of one transaction, whose ids the audit record names.
const repairBatch = 1000

// idsDetail is the detail of an audit record that names the events.
const idsDetail = "ids"

// repair publishes the missing events from the oplog. Every transaction of them is on
// record in the audit topic, by the same transaction.
func (v *verification) repair(ctx context.Context, r *Repair) error {
	published := int64(0)
	return inBlocks(v.compare.missing, func(missing []entry) error {
		done := make([]bool, len(missing))
		for i, s := range v.Streams {
			if !s.Asked {
				continue
			}
			if err := v.repairStream(ctx, r, i, missing, done, &published); err != nil {
				return fmt.Errorf("repair: %w", err)
			}
		}
		return nil
	})
}

func (v *verification) repairStream(ctx context.Context, r *Repair, stream int, missing []entry, done []bool, published *int64) error {
	s, span := v.Streams[stream], v.spans[stream]
	publish := func(ctx context.Context, events []mapper.Event) error {
		events = slices.DeleteFunc(events, func(e mapper.Event) bool { return !v.lacks(&e, missing, done) })
		for batch := range slices.Chunk(events, repairBatch) {
			record, err := v.record(r, s.Name, batch)
			if err != nil {
				return err
			}
			if *published == 0 && r.Published != nil {
				r.Published(0, v.compare.missing.count)
			}
			if err := r.publishers[s.Name].Publish(ctx, &publisher.Batch{Events: batch}, record); err != nil {
				return overtaken(s.Name, *published, err)
			}
			for i := range batch {
				v.report.result.Topics[slices.Index(v.topics, batch[i].Topic)].Repaired++
			}
			*published += int64(len(batch))
			if r.Published != nil {
				r.Published(*published, v.compare.missing.count)
			}
		}
		return nil
	}
	if v.begins[stream].scanned {
		if err := v.repairScanned(ctx, s, span, missing, done, publish); err != nil {
			return err
		}
	}
	oplog := v.oplog(stream)
	return oplog.Read(ctx, s.Stream, span, func(ctx context.Context, part Part) error { return publish(ctx, part.Events) })
}

// overtaken says what a repair should know that another one has fenced.
func overtaken(stream string, published int64, err error) error {
	if !resumetoken.LostTransactions(err) {
		return err
	}
	reason := new(kerr.Error)
	_ = errors.As(err, &reason) // there is one: that is how a fence shows
	return fmt.Errorf("another verify --repair of stream %s has begun meanwhile and publishes what is still missing; "+
		"or a transaction took longer than kafka.transaction_timeout (%s). This one has published %d events: verify again", stream, reason.Message, published)
}

// lacks tells whether an event is missing, and takes it off the list.
func (v *verification) lacks(e *mapper.Event, missing []entry, done []bool) bool {
	i := v.missed(e, missing, done)
	if i >= 0 {
		done[i] = true
	}
	return i >= 0
}

// missed is the place of an event on the list of what is missing, negative if it is
// not.
func (v *verification) missed(e *mapper.Event, missing []entry, done []bool) int {
	id, err := uuid.Parse(e.ID)
	if err != nil {
		return -1
	}
	topic := slices.Index(v.topics, e.Topic)
	for i, ok := find(missing, id); ok && i < len(missing) && missing[i].id == id; i++ {
		if !done[i] && int(missing[i].topic) == topic {
			return i
		}
	}
	return -1
}

// record puts a repair on record.
func (v *verification) record(r *Repair, stream string, events []mapper.Event) (kgo.Record, error) {
	ids := make([]string, len(events))
	for i := range events {
		ids[i] = events[i].ID
	}
	return publisher.AuditRecord{
		Name: v.Name, Stream: stream, Action: publisher.AuditVerifyRepaired, Actor: r.Actor,
		Details: map[string]any{"since": v.Since.Format(time.RFC3339), "events": len(ids), idsDetail: ids},
	}.Kafka(v.Audit)
}

// readRepairs notes the events that repairs have published: they come later than their
// neighbours.
func (v *verification) readRepairs(ctx context.Context) error {
	reader, err := openTopics(ctx, v.Client, []string{v.Audit}, v.Since.Add(-clockMargin), patience{v.Patience, nil})
	if err != nil {
		return err
	}
	defer reader.close()
	return reader.each(ctx, func(r *kgo.Record) error {
		var record struct {
			Name    string                `json:"name"`
			Action  publisher.AuditAction `json:"action"`
			Details struct {
				IDs []uuid.UUID `json:"ids"`
			} `json:"details"`
		}
		if json.Unmarshal(r.Value, &record) != nil || record.Name != v.Name || record.Action != publisher.AuditVerifyRepaired {
			return nil // of something else
		}
		for _, id := range record.Details.IDs {
			for topic := range v.topics {
				if err := v.compare.add(&entry{id: id, topic: uint8(topic), class: repaired}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
