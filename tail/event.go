package tail

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// KindDeadLetter is the kind of what could not become an event.
const KindDeadLetter mapper.Kind = "dead_letter"

// kindUnknown is the kind of a record that is none of ours.
const kindUnknown mapper.Kind = "unknown"

// Event is a record as it is shown.
type Event struct {
	Kind mapper.Kind `json:"kind"`
	// ID is the event's id; empty for a dead letter.
	ID        string `json:"id,omitempty"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Key       string `json:"key"`
	// Headers are in the record's order.
	Headers []Header `json:"headers"`
	// Value is the body as it is: JSON as such, anything else as text.
	Value json.RawMessage `json:"value"`
	// Time is when what the event tells of was written. Only usage events tell it: a
	// change event has the day, an export event nothing. Stored is the record's own
	// time, the begin of its transaction.
	Time   *time.Time `json:"time,omitempty"`
	Stored time.Time  `json:"stored"`
	Seen   time.Time  `json:"seen"`
	// LatencyMS is from Time to Seen, StoredLatencyMS from Stored to Seen, in
	// milliseconds. Clocks of several hosts are in them.
	LatencyMS       *int64 `json:"latencyMs,omitempty"`
	StoredLatencyMS int64  `json:"storedLatencyMs"`
}

// Header is one header of a record.
type Header struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Decode describes a record that was seen at a time. deadLetters is the dead-letter
// topic; the kind of any other record is told by its contents, since kinds may share a
// topic.
func Decode(r *kgo.Record, deadLetters string, seen time.Time) Event {
	e := Event{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: string(r.Key), Headers: make([]Header, len(r.Headers)),
		Stored: r.Timestamp.UTC(), Seen: seen.UTC(), StoredLatencyMS: seen.Sub(r.Timestamp).Milliseconds(),
	}
	headers := map[string]string{}
	for i, h := range r.Headers {
		e.Headers[i] = Header{Key: h.Key, Value: string(h.Value)}
		headers[h.Key] = string(h.Value)
	}
	var body struct {
		ResourceType string `json:"resourceType"`
		ID           string `json:"id"`
		Type         string `json:"type"`
	}
	e.Value = r.Value
	if json.Unmarshal(r.Value, &body) != nil && !json.Valid(r.Value) {
		e.Value, _ = json.Marshal(string(r.Value))
	}
	written := ""
	switch {
	case r.Topic == deadLetters:
		e.Kind = KindDeadLetter
	case headers["ce_type"] != "":
		e.Kind, e.ID, written = mapper.KindAccessedEverything, headers["ce_id"], headers["ce_time"]
	case body.ResourceType == "AuditEvent":
		e.Kind, e.ID = mapper.KindChange, body.ID
	case strings.HasPrefix(body.Type, "Export"):
		e.Kind, e.ID = mapper.KindExport, body.ID
	default:
		e.Kind, e.ID = kindUnknown, body.ID
	}
	if at, err := time.Parse(time.RFC3339Nano, written); err == nil {
		after := seen.Sub(at).Milliseconds()
		e.Time, e.LatencyMS = &at, &after
	}
	return e
}
