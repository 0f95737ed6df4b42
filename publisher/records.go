package publisher

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// recordBuffer turns batches into the Kafka client's records, in memory that is
// used again: a busy stream makes 65,000 records a second. The records belong to
// the client from fill until all are acknowledged; a buffer whose records have
// failed must be thrown away.
type recordBuffer struct {
	records []kgo.Record
	headers []kgo.RecordHeader
}

// fill makes records of a batch: the events, then the dead letters.
func (b *recordBuffer) fill(batch *Batch, o *Options) ([]kgo.Record, error) {
	if len(batch.Failures) > 0 && o.DeadLetters == "" {
		return nil, fmt.Errorf("%d changes cannot be events and there is no dead-letter topic: %w", len(batch.Failures), &batch.Failures[0])
	}
	b.records, b.headers = b.records[:0], b.headers[:0]
	// One time for all; the client would ask the clock for each record.
	now := time.Now()
	for i := range batch.Events {
		e := &batch.Events[i]
		if e.Topic == "" {
			return nil, fmt.Errorf("%s event %s has no topic", e.Kind, e.ID)
		}
		b.records = append(b.records, kgo.Record{
			Topic: e.Topic, Key: e.Key, Value: e.Value, Headers: b.addHeaders(e.Headers), Timestamp: now,
		})
	}
	for i := range batch.Failures {
		key, value, err := deadLetter(&batch.Failures[i], o.Stream)
		if err != nil {
			return nil, err
		}
		b.records = append(b.records, kgo.Record{Topic: o.DeadLetters, Key: key, Value: value, Timestamp: now})
	}
	return b.records, nil
}

// addHeaders puts headers into the buffer. Where that has to grow, the records that
// have been made keep what they point to.
func (b *recordBuffer) addHeaders(headers []mapper.Header) []kgo.RecordHeader {
	if len(headers) == 0 {
		return nil
	}
	first := len(b.headers)
	for _, h := range headers {
		b.headers = append(b.headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return b.headers[first:len(b.headers):len(b.headers)]
}

// release lets go of the events of the last batch, which would otherwise stay in
// memory until the next one.
func (b *recordBuffer) release() {
	clear(b.records)
	clear(b.headers)
}

// errBroken is what a publisher returns after an error until Acquire.
var errBroken = errors.New("the stream must be acquired again after the last error")

// Batch is the unit of publishing: the events of consecutive changes of one
// stream, what could not be made an event, and the position after the last of
// these changes. It never ends inside the events of one change.
type Batch struct {
	Events   []mapper.Event
	Failures []mapper.Failure
	Position resumetoken.Position
	// Changes is how many changes it was made of: of those just read and those that waited.
	// Bytes is how large they are: what the batch keeps in memory.
	Changes, Bytes int
	// Read is when the first of them was read, Map and Mapped when mapping began and
	// ended: times of this process's clock, for traces. They may be zero.
	Read, Map, Mapped time.Time
}
