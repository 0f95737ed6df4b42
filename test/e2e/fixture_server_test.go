package e2e_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// compareServerChanges compares with the server's own change events. Ours are equal
// to the byte but for the id and the site (the caller's request id where the
// server has its own); they have the header b3, which the server has dropped; there
// are more of them, for the server coalesces; and there is no D by default.
func compareServerChanges(t *testing.T, r recording, records []harness.Record) {
	t.Helper()
	ours := map[string][]harness.Record{}
	for _, record := range records {
		ours[record.Key] = append(ours[record.Key], record)
	}
	var equal, deletes int
	for _, m := range r.of("business.events") {
		if field(t, m.Value, "action") == "D" {
			deletes++
			continue
		}
		// The server's are some of ours, in the same order for each key.
		same := func(record harness.Record) bool { return withoutIDs(string(record.Value)) == withoutIDs(m.Value) }
		n := slices.IndexFunc(ours[m.Key], same)
		if n < 0 {
			t.Errorf("no event of ours equals the server's of key %s: %s", m.Key, m.Value)
			continue
		}
		if diff := cmp.Diff(m.headers(), ours[m.Key][n].Headers.Without("b3")); diff != "" {
			t.Errorf("headers of the event of key %s (-server +ours):\n%s", m.Key, diff)
		}
		if m.Key == "con-11" && site(t, m.Value) != site(t, string(ours[m.Key][n].Value)) {
			// Its caller sent no X-Request-ID, so both ids are the server's own.
			t.Errorf("the event of con-11 has another site than the server's: %s", ours[m.Key][n].Value)
		}
		ours[m.Key] = ours[m.Key][n+1:]
		equal++
	}
	if equal != 40 || deletes != 5 {
		t.Errorf("compared %d events and left out %d deletes, want 40 and 5", equal, deletes)
	}
}

// withoutIDs takes out what differs by design.
func withoutIDs(value string) string {
	value = regexp.MustCompile(`"id":"[0-9a-f-]{36}"`).ReplaceAllString(value, `"id":""`)
	return regexp.MustCompile(`"site":"[^"]*"`).ReplaceAllString(value, `"site":""`)
}

// compareServerExports compares with the server's own export events: as many, equal
// to the byte but for the id and the header b3, which the server has dropped.
func compareServerExports(t *testing.T, r recording, records []harness.Record) {
	t.Helper()
	// The key is the event's id, so there is no order; a status that came twice
	// (e11, e12) gives two events of the same contents.
	var want, got []string
	for _, m := range r.of("fhir.bulk_export.events") {
		want = append(want, withoutIDs(m.Value))
		if m.Key != field(t, m.Value, "id") {
			t.Errorf("the server's export event has key %s and another id", m.Key)
		}
		if diff := cmp.Diff(harness.Headers{{Key: "version", Value: "R4"}}, m.headers()); diff != "" {
			t.Errorf("headers of the server (-want +got):\n%s", diff)
		}
	}
	for _, record := range records {
		got = append(got, withoutIDs(string(record.Value)))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("export events without ids (-server +ours):\n%s", diff)
	}
}

// compareServerAccesses compares with the server's own usage events, request by
// request: equal but for the ids, the time (ours is the trace's, a few milliseconds
// away) and the managing organization, which the server takes from the token.
func compareServerAccesses(t *testing.T, r recording, records []harness.Record) {
	t.Helper()
	ours := map[string]harness.Record{}
	for _, record := range records {
		ours[record.EventID()] = record
	}
	messages := r.of("fhir.operation.usage.events")
	if len(messages) != len(everythingSteps()) {
		t.Errorf("the server sent %d usage events, want one for each of %d requests", len(messages), len(everythingSteps()))
	}
	for _, step := range everythingSteps() {
		from, to := r.window(t, step)
		n := slices.IndexFunc(messages, func(m recordedMessage) bool {
			at, err := time.Parse(time.RFC3339Nano, m.headers().Get("ce_time"))
			return err == nil && !at.Before(from) && at.Before(to)
		})
		if n < 0 {
			t.Errorf("the server sent nothing at step %s", step)
			continue
		}
		traces := tracesOf(t, r, step)
		if len(traces) == 0 {
			continue
		}
		record, server := ours[harness.AccessedEverythingID(traces[0].requestID)], messages[n]
		if uuid.Validate(record.Key) != nil || record.Key == record.EventID() {
			t.Errorf("step %s: key %q is not a uuid of its own", step, record.Key)
		}
		differ := []string{"ce_id", "ce_time"}
		if diff := cmp.Diff(server.headers().Without(differ...), record.Headers.Without(differ...)); diff != "" {
			t.Errorf("step %s: headers (-server +ours):\n%s", step, diff)
		}
		if diff := cmp.Diff(persons(t, server.Value), persons(t, string(record.Value))); diff != "" {
			t.Errorf("step %s: persons (-server +ours):\n%s", step, diff)
		}
	}
}

func persons(t *testing.T, value string) usage {
	t.Helper()
	var u usage
	if err := json.Unmarshal([]byte(value), &u); err != nil {
		t.Errorf("value %q: %v", value, err)
	}
	u.Organization = ""
	return u
}

func field(t *testing.T, value, name string) any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(value), &body); err != nil {
		t.Fatalf("value %q: %v", value, err)
	}
	return body[name]
}

func site(t *testing.T, value string) any {
	t.Helper()
	source, _ := field(t, value, "source").(map[string]any)
	return source["site"]
}
