package tail

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// TestDecode: the contents tell the kind, whatever the topic is called, and what is no
// event is shown all the same.
func TestDecode(t *testing.T) {
	stored := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	seen := stored.Add(40 * time.Millisecond)
	for name, c := range map[string]struct {
		record  kgo.Record
		kind    mapper.Kind
		id      string
		value   string
		latency string
	}{
		"change": {
			kgo.Record{Topic: "t", Value: []byte(`{"resourceType":"AuditEvent","id":"a","recorded":"2026-11-23"}`)},
			mapper.KindChange, "a", `{"resourceType":"AuditEvent","id":"a","recorded":"2026-11-23"}`, "40 ms in Kafka",
		},
		"export": {kgo.Record{Topic: "t", Value: []byte(`{"id":"b","type":"ExportInitiated"}`)}, mapper.KindExport, "b", `{"id":"b","type":"ExportInitiated"}`, "40 ms in Kafka"},
		"usage": {
			kgo.Record{Topic: "t", Value: []byte(`{}`), Headers: []kgo.RecordHeader{
				{Key: "ce_id", Value: []byte("c")}, {Key: "ce_type", Value: []byte("AccessedEverything")}, {Key: "ce_time", Value: []byte("2026-11-23T09:59:59.9Z")},
			}},
			mapper.KindAccessedEverything, "c", `{}`, "140 ms after the write, 40 ms in Kafka",
		},
		"dead letter": {kgo.Record{Topic: "dead", Value: []byte(`{"kind":"export"}`)}, KindDeadLetter, "", `{"kind":"export"}`, "40 ms in Kafka"},
		"foreign":     {kgo.Record{Topic: "t", Value: []byte("no <JSON>")}, kindUnknown, "", "no <JSON>", "40 ms in Kafka"},
		"tombstone":   {kgo.Record{Topic: "t"}, kindUnknown, "", "", "40 ms in Kafka"},
	} {
		t.Run(name, func(t *testing.T) {
			c.record.Timestamp = stored
			e := Decode(&c.record, "dead", seen)
			if e.Kind != c.kind || e.ID != c.id || string(e.text()) != c.value || e.Latency() != c.latency {
				t.Errorf("got %+v, value %s, %s", e, e.text(), e.Latency())
			}
			var out strings.Builder
			if err := terminal.WriteJSONLine(&out, e); err != nil {
				t.Error(err)
			}
		})
	}
}

// Headers have the shape that sink: stdout gives them, in the record's order.
func TestHeadersAreAnObject(t *testing.T) {
	var out strings.Builder
	if err := terminal.WriteJSONLine(&out, Headers{{"version", "R4"}, {"b3", `a"b`}, {"b3", "<2>"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), `{"version":"R4","b3":"a\"b","b3":"<2>"}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if e := Decode(&kgo.Record{Topic: "t"}, "dead", time.Time{}); terminal.WriteJSONLine(&out, e) != nil || !strings.Contains(out.String(), `"headers":{}`) {
		t.Errorf("without headers: %s", out.String())
	}
}
