package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// readTopics notes the records.
func (v *verification) readTopics(ctx context.Context, reader *publisher.TopicReader) error {
	events := mapper.NewRecords()
	var count int64
	earliest := make([]time.Time, len(v.topics))
	seen := map[string]map[int32]bool{}
	for _, topic := range v.topics {
		seen[topic] = map[int32]bool{}
	}
	err := reader.Each(ctx, func(r *kgo.Record) error {
		topic := slices.Index(v.topics, r.Topic)
		v.report.result.Topics[topic].Records++
		if count++; count%1000 == 0 {
			v.Read(count, reader.Total)
		}
		if !seen[r.Topic][r.Partition] {
			seen[r.Topic][r.Partition] = true
			if reader.Ranges[r.Topic][r.Partition].Trimmed && r.Timestamp.After(earliest[topic]) {
				earliest[topic] = r.Timestamp
			}
		}
		e := entry{topic: uint8(topic), class: found, place: uint64(r.Offset), key: recordKey(r.Key), at: uint64(r.Timestamp.UnixMilli()), partition: r.Partition}
		record := publisher.RecordOf(r)
		if record.Profile() == mapper.ProfileStrict {
			e.origin = strictRecord
		}
		var ok bool
		if e.id, ok = eventID(events, record); !ok {
			place := v.compare.place(&e)
			place.ID, place.Reason, place.KeyBytes = "", ReasonNoID, len(r.Key)
			v.report.unexpected(e.topic, 1, place)
			return nil
		}
		if v.selfMade(record, r.Key) {
			if err := v.compare.addOwn(&e, record.Profile()); err != nil {
				return err
			}
		}
		return v.compare.add(&e)
	})
	if err != nil {
		return err
	}
	if err := v.readHeld(ctx, reader); err != nil {
		return err
	}
	v.Read(count, count)
	v.retention(reader, earliest)
	return nil
}

// selfMade tells whether a record of a window has the id that its own key and time make. Nothing
// else tells of an event of a link that has been removed since, or of a repair.
func (v *verification) selfMade(r mapper.Record, key []byte) bool {
	return slices.ContainsFunc(v.Streams, func(s VerifiedStream) bool { return s.Mapper.MadeDataChange(r, key) })
}

// readHeld notes the records behind transactions that do not end.
func (v *verification) readHeld(ctx context.Context, reader *publisher.TopicReader) error {
	behind, err := reader.Held()
	if err != nil || behind == nil {
		return err
	}
	defer behind.Close()
	for topic, partitions := range behind.Ranges {
		for p, part := range partitions {
			v.report.note(fmt.Sprintf("topic %s, partition %d: a transaction has been open at offset %d for more than %s: consumers that read committed records do not get beyond it. "+
				"Events there count as held, neither as there nor as missing, and are not repaired: verify again when it has ended (docs/runbook.md, a transaction that hangs)",
				topic, p, part.From, terminal.Duration(v.Patience)))
		}
	}
	events := mapper.NewRecords()
	return behind.Each(ctx, func(r *kgo.Record) error {
		if id, ok := eventID(events, publisher.RecordOf(r)); ok {
			return v.compare.add(&entry{id: id, topic: uint8(slices.Index(v.topics, r.Topic)), class: held, place: uint64(r.Offset), partition: r.Partition})
		}
		return nil
	})
}

// retention leaves out the events that the topics may have deleted.
func (v *verification) retention(reader *publisher.TopicReader, earliest []time.Time) {
	for topic, first := range earliest {
		if first.After(v.Since) {
			v.compare.earliest[topic] = packTime(clusterTime(first.Add(time.Second)))
			v.report.note(fmt.Sprintf("topic %s does not reach back to %s: records before %s have been deleted by its retention, and missing events were looked for from then on only",
				v.topics[topic], v.Since.UTC().Format(time.RFC3339), first.UTC().Format(time.RFC3339)))
		}
	}
	for topic, partitions := range reader.Ranges {
		for p, part := range partitions {
			if part.Trimmed && part.From >= part.End {
				v.report.note(fmt.Sprintf("topic %s, partition %d has no records of the span, and older ones have been deleted: what is missing may have been there", topic, p))
			}
		}
	}
}

// idLength is the length of an event id: uuid.Parse takes other forms too.
const idLength = 36

// eventID is the id of a record's event, false if it has none that an event of ours could
// have.
func eventID(events mapper.Records, r mapper.Record) (uuid.UUID, bool) {
	text := events.EventID(r)
	id, err := uuid.ParseBytes(text)
	return id, err == nil && len(text) == idLength
}
