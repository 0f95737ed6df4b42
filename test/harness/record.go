package harness

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Record is one record as a consumer got it.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	// Timestamp is the record's own: the producer's or the broker's clock, as the
	// topic is configured.
	Timestamp time.Time
	Key       string
	Value     []byte
	Headers   Headers
	// ProducerID and ProducerEpoch are of the client that wrote it. Of a
	// transactional id's clients the newest has the highest epoch.
	ProducerID    int64
	ProducerEpoch int16
}

func newRecord(r *kgo.Record) Record {
	out := Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
		Key: string(r.Key), Value: r.Value, Headers: make(Headers, len(r.Headers)),
		ProducerID: r.ProducerID, ProducerEpoch: r.ProducerEpoch,
	}
	for i, h := range r.Headers {
		out.Headers[i] = Header{Key: h.Key, Value: string(h.Value)}
	}
	return out
}

// EventID is the event's id, whichever kind it is: the header ce_id of a usage
// event, event_id of a compact one, the member id of the others; empty if there is none.
func (r Record) EventID() string {
	if id := cmp.Or(r.Headers.Get("ce_id"), r.Headers.Get("event_id")); id != "" {
		return id
	}
	var body struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(r.Value, &body) != nil {
		return ""
	}
	return body.ID
}

// JSON is the value as Go sees JSON.
func (r Record) JSON() (map[string]any, error) {
	var body map[string]any
	if err := json.Unmarshal(r.Value, &body); err != nil {
		return nil, fmt.Errorf("value of %s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	return body, nil
}

// Of keeps the records of one topic, in their order.
func Of(records []Record, topic string) []Record {
	var kept []Record
	for _, r := range records {
		if r.Topic == topic {
			kept = append(kept, r)
		}
	}
	return kept
}

// EventIDs are the ids of records, in their order.
func EventIDs(records []Record) []string {
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.EventID()
	}
	return ids
}
