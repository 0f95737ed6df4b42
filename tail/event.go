package tail

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// KindDeadLetter is the kind of a change that could not become an event.
const KindDeadLetter mapper.Kind = "dead_letter"

// kindUnknown is the kind of a record that holds no event of fhir-cdc.
const kindUnknown mapper.Kind = "unknown"

// Event is a record as it is shown.
type Event struct {
	Kind mapper.Kind `json:"kind"`
	// ID is the event's id; empty for a dead letter.
	ID        string  `json:"id,omitempty"`
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Key       string  `json:"key"`
	Headers   Headers `json:"headers"`
	// Value is the unchanged body: JSON as JSON, anything else as text.
	Value json.RawMessage `json:"value"`
	// Time is when the document behind the event was written. Only usage events have it: a
	// change event has the day, an export event nothing. Stored is the record's own
	// time, the beginning of its transaction.
	Time   *time.Time `json:"time,omitempty"`
	Stored time.Time  `json:"stored"`
	Seen   time.Time  `json:"seen"`
	// LatencyMS is from Time to Seen, StoredLatencyMS from Stored to Seen, in
	// milliseconds. They compare clocks of several hosts.
	LatencyMS       *int64 `json:"latencyMs,omitempty"`
	StoredLatencyMS int64  `json:"storedLatencyMs"`
}

// Headers are a record's headers, in its order.
type Headers []Header

// Header is one header of a record.
type Header struct{ Key, Value string }

// MarshalJSON makes an object with a member for each header, as sink: stdout does. A name that
// a record has twice, which no event of fhir-cdc has, is there twice.
func (h Headers) MarshalJSON() ([]byte, error) {
	var object bytes.Buffer
	texts := json.NewEncoder(&object)
	texts.SetEscapeHTML(false)
	object.WriteByte('{')
	for i, header := range h {
		if i > 0 {
			object.WriteByte(',')
		}
		if err := texts.Encode(header.Key); err != nil {
			return nil, err
		}
		object.WriteByte(':')
		if err := texts.Encode(header.Value); err != nil {
			return nil, err
		}
	}
	object.WriteByte('}')
	return object.Bytes(), nil
}

// Decode describes a record that was seen at a time. deadLetters is the dead-letter
// topic; the kind of any other record follows from its contents, since kinds may share a
// topic.
func Decode(r *kgo.Record, deadLetters string, seen time.Time) Event {
	e := Event{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: string(r.Key), Headers: make(Headers, len(r.Headers)),
		Stored: r.Timestamp.UTC(), Seen: seen.UTC(), StoredLatencyMS: seen.Sub(r.Timestamp).Milliseconds(),
	}
	record, written := mapper.Record{Value: r.Value}, ""
	for i, h := range r.Headers {
		e.Headers[i] = Header{Key: h.Key, Value: string(h.Value)}
		record.Header(h.Key, h.Value)
		if h.Key == "ce_time" {
			written = string(h.Value)
		}
	}
	e.Value = r.Value
	if !json.Valid(r.Value) {
		e.Value, _ = json.Marshal(string(r.Value))
	}
	if r.Topic == deadLetters {
		e.Kind = KindDeadLetter
		return e
	}
	events := mapper.NewRecords()
	e.Kind, e.ID = cmp.Or(events.KindOf(record), kindUnknown), string(events.EventID(record))
	if at, err := time.Parse(time.RFC3339Nano, written); err == nil {
		after := seen.Sub(at).Milliseconds()
		e.Time, e.LatencyMS = &at, &after
	}
	return e
}

const (
	// bodyIndent is where bodies begin on the screen.
	bodyIndent = "             "
	// bodyWidth is the longest line of a body, except for lines that cannot be broken.
	bodyWidth = 110
)

// member is the name of a member at the beginning of a line or within it.
func member() *regexp.Regexp { return regexp.MustCompile(`("[A-Za-z0-9_]+"): `) }

// body lays JSON out: an object or array on one line where it fits, else a member a
// line. Anything else is shown as it is, on one line.
func body(s *terminal.Screen, value []byte) []string {
	var indented bytes.Buffer
	// Space behind the value would become empty lines.
	if json.Indent(&indented, bytes.TrimSpace(value), bodyIndent, "  ") != nil {
		return []string{string(value)}
	}
	var lines []string
	var open []int // the lines with a bracket that is not closed yet
	for line := range strings.Lines(indented.String()) {
		line = strings.TrimRight(line, "\n")
		lines = append(lines, line)
		switch first, last := strings.TrimSpace(line)[0], line[len(line)-1]; {
		case last == '{' || last == '[':
			open = append(open, len(lines)-1)
		case first == '}' || first == ']':
			start := open[len(open)-1]
			open = open[:len(open)-1]
			if joined := join(lines[start:]); start > 0 && len(joined) <= bodyWidth {
				lines = append(lines[:start], joined)
			}
		}
	}
	names := member()
	for i := range lines {
		lines[i] = names.ReplaceAllString(lines[i], s.Paint(terminal.Cyan, "$1")+": ")
	}
	return lines
}

// join puts an object or an array, a member a line, on one line.
func join(lines []string) string {
	var b strings.Builder
	b.WriteString(lines[0])
	for i, line := range lines[1:] {
		if i > 0 && i < len(lines)-2 {
			b.WriteByte(' ')
		}
		b.WriteString(strings.TrimSpace(line))
	}
	return b.String()
}
