package mapper_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// copyOf is an event that shares nothing with e.
func copyOf(e mapper.Event) mapper.Event {
	e.ID = strings.Clone(e.ID)
	e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
	e.Headers = slices.Clone(e.Headers)
	for i := range e.Headers {
		e.Headers[i].Value = bytes.Clone(e.Headers[i].Value)
	}
	return e
}

func sameEvents(t *testing.T, want, got []mapper.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) { // Much faster than cmp where they are equal.
			t.Fatalf("event %d: want -, got +:\n%s", i, cmp.Diff(want[i], got[i]))
		}
	}
}

// TestEventsKeepTheirBytes maps many changes of very different sizes into one
// Output and looks at each event again after the last.
func TestEventsKeepTheirBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	m := mapper.New(defaults())
	names := []string{"export-completed", "access-log-patient", "audit-event-patient", "consent-source-type"}
	var out mapper.Output
	var want []mapper.Event
	for i := range 3000 {
		raw := readChange(t, names[i%len(names)])
		if i%3 == 0 {
			size := random.IntN(900)
			switch {
			case i%99 == 0:
				size = 200 << 10 // beyond a block of the arena
			case i%30 == 0:
				size = 1<<10 + random.IntN(8<<10) // beyond the headroom
			}
			raw = consent{id: strings.Repeat("i\"", size/2+1), versionID: strings.Repeat("v", i%7+1)}.raw(t)
		}
		var c mapper.Change
		m.Read(raw, &c)
		appendTo(t, m, &c, randomFacts(random), &out)
		for _, e := range out.Events[len(want):] {
			want = append(want, copyOf(e))
		}
	}
	sameEvents(t, want, out.Events)

	// Nobody should append to an event's slices. If somebody does, the others' bytes
	// must not change.
	for i := range out.Events {
		e := &out.Events[i]
		_ = append(e.Value, "overwritten"...)
		_ = append(e.Key, "overwritten"...)
		_ = append(e.Headers, mapper.Header{Key: "overwritten"})
		for _, h := range e.Headers {
			_ = append(h.Value, "overwritten"...)
		}
	}
	sameEvents(t, want, out.Events)
}

// TestEventsOutliveTheChange overwrites the change after it is mapped: the server's
// batch that it lies in is used again. Sources do point into the change.
func TestEventsOutliveTheChange(t *testing.T) {
	for _, name := range []string{"export-completed", "access-log-patient", "consent-source-type"} {
		raw := readChange(t, name)
		out := mapOne(t, defaults(), raw, mapper.Facts{RequestID: "r"})
		var want []mapper.Event
		for _, e := range out.Events {
			e.Change = mapper.ChangeName{}
			want = append(want, copyOf(e))
		}
		clear(raw)
		for i, e := range out.Events {
			e.Change = mapper.ChangeName{}
			if diff := cmp.Diff(want[i], e); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}

func TestSizeIsThatOfKeyValueAndHeaders(t *testing.T) {
	e := mapper.Event{Key: []byte("12"), Value: []byte("345"), Headers: []mapper.Header{{Key: "b3", Value: []byte("6789")}, {Key: "v"}}}
	if got, want := e.Size(), 2+3+2+4+1; got != want {
		t.Errorf("size %d, want %d", got, want)
	}
}
