package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

func TestDocument(t *testing.T) {
	written := document{run: "abc-7", number: 123, written: time.Unix(1_763_900_000, 123_456_789)}
	got, ok := parseID(written.id())
	if !ok || got.run != written.run || got.number != written.number || !got.written.Equal(written.written) {
		t.Errorf("parsed %+v (%v), want %+v", got, ok, written)
	}
	for _, text := range []string{"", "consent-1", "b.x.1.2", "b.x.0000000a.1763900000123456789", "b.x.00000001.17639000001234567a9"} {
		if _, ok := parseID(text); ok {
			t.Errorf("%q is taken for a document of the benchmark", text)
		}
	}
	raw, err := bson.Marshal(written.consent())
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) < 2200 || len(raw) > 2600 {
		t.Errorf("a Consent has %d bytes, want about 2.4 KB", len(raw))
	}
}

// TestLoopWritesTheDaemonsRecord holds the plain loop to the daemon's work: else the
// comparison would say nothing.
func TestLoopWritesTheDaemonsRecord(t *testing.T) {
	d := document{run: "r", number: 1, written: time.Unix(1_763_900_000, 0)}
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: bson.D{{Key: "_data", Value: "82"}}},
		{Key: "operationType", Value: "insert"},
		{Key: "ns", Value: bson.D{{Key: "db", Value: database}, {Key: "coll", Value: collection}}},
		{Key: "fullDocument", Value: d.consent()},
	})
	if err != nil {
		t.Fatal(err)
	}
	var e event
	e.pick(raw)
	loop := e.record()

	m := mapper.New(mapper.Config{Database: database, Resources: []string{"Consent"}, Topics: map[mapper.Kind]string{mapper.KindChange: "t"}})
	var c mapper.Change
	var out mapper.Output
	m.Read(raw, &c)
	m.Append(&c, mapper.Facts{}, &out)
	if len(out.Events) != 1 || len(out.Failures) != 0 {
		t.Fatalf("the daemon makes %d events, %d failures", len(out.Events), len(out.Failures))
	}
	daemon := out.Events[0]
	if !bytes.Equal(loop.Key, daemon.Key) {
		t.Errorf("key %s, the daemon's %s", loop.Key, daemon.Key)
	}
	if got, want := strings.ReplaceAll(string(loop.Value), e.id, "ID"), strings.ReplaceAll(string(daemon.Value), daemon.ID, "ID"); got != want {
		t.Errorf("value\n%s\nthe daemon's\n%s", got, want)
	}
	if len(loop.Headers) != len(daemon.Headers) {
		t.Fatalf("%d headers, the daemon has %d", len(loop.Headers), len(daemon.Headers))
	}
	for i, h := range daemon.Headers {
		if loop.Headers[i].Key != h.Key {
			t.Errorf("header %d is %s, the daemon's %s", i, loop.Headers[i].Key, h.Key)
		}
	}
}

func TestStatistics(t *testing.T) {
	values := make([]float64, 100)
	for i := range values {
		values[i] = float64(i + 1)
	}
	for p, want := range map[int]float64{50: 51, 90: 91, 99: 100} {
		if got := percentile(values, p); got != want {
			t.Errorf("percentile %d is %v, want %v", p, got, want)
		}
	}
	for want, values := range map[string][]float64{
		"-":             nil,
		"1,234":         {1234},
		"2 (1-3)":       {3, 1, 2},
		"15 (10-1,000)": {1000, 10, 15, 15},
	} {
		if got := spread(values, 0); got != want {
			t.Errorf("spread of %v is %q, want %q", values, got, want)
		}
	}
}

func TestTablesAreAligned(t *testing.T) {
	var b strings.Builder
	writeTable(&b, drainRows([]drainResult{{What: nameBare, Rate: 90_000, CPU: 0.4}, {What: nameLoop, Rate: 60_000, CPU: 0.8}, {What: nameExactlyOnce, Rate: 57_000, CPU: 0.8}}))
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d lines, want a head, a rule and 3 rows:\n%s", len(lines), b.String())
	}
	for _, line := range lines {
		if len(line) != len(lines[0]) {
			t.Errorf("uneven:\n%s", b.String())
		}
	}
	if !strings.Contains(lines[4], "| 57,000    | 0.95   | 0.63   | 0.80  | 1.00   |") {
		t.Errorf("ratios of exactly_once: %s", lines[4])
	}
}
