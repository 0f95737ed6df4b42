package mapper_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// The tests of this file and of deviations_cloudevents_test.go hold what the events
// keep of the FHIR server's own deviations from FHIR, CloudEvents and B3. Consumers
// rely on them: whoever wants to mend one breaks a consumer.

// auditEvent is the body of a change event.
type auditEvent struct {
	ResourceType string
	ID           string
	Type         map[string]string
	Action       string
	Period       map[string]string
	Recorded     string
	Purpose      []struct{ Coding []map[string]string } `json:"purposeOfEvent"`
	Agent        []struct {
		Who       map[string]string
		Requestor bool
	}
	Entity []any
	Source struct {
		Site     string
		Observer map[string]string
		Type     []map[string]string
	}
}

// eventOf maps the change of a golden case and returns its event of a kind.
func eventOf(t *testing.T, name string, kind mapper.Kind, facts mapper.Facts) mapper.Event {
	t.Helper()
	for _, e := range mapOne(t, defaults(), readChange(t, name), facts).Events {
		if e.Kind == kind {
			return e
		}
	}
	t.Fatalf("%s gives no event of kind %s", name, kind)
	return mapper.Event{}
}

func body[T any](t *testing.T, e mapper.Event) (v T) {
	t.Helper()
	if err := json.Unmarshal(e.Value, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func changeBody(t *testing.T, name string) auditEvent {
	t.Helper()
	return body[auditEvent](t, eventOf(t, name, mapper.KindChange, mapper.Facts{}))
}

func header(t *testing.T, e mapper.Event, key string) string {
	t.Helper()
	for _, h := range e.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	t.Fatalf("no header %s", key)
	return ""
}

func TestChangeDeviation1RecordedIsADateNotAnInstant(t *testing.T) {
	a := changeBody(t, "consent-create")
	for _, day := range []string{a.Recorded, a.Period["start"], a.Period["end"]} {
		if day != "2026-11-23" {
			t.Errorf("%q, want the day", day)
		}
	}
}

func TestChangeDeviation2TypeHasNoSystem(t *testing.T) {
	if diff := cmp.Diff(map[string]string{"code": "110100"}, changeBody(t, "consent-create").Type); diff != "" {
		t.Error(diff)
	}
}

func TestChangeDeviation3AgentIsTheChangedResource(t *testing.T) {
	for name, want := range map[string]string{
		"consent-create":  "Consent/con-1",
		"export-accepted": "ExportStatus/9168839e-791e-4a15-8e0e-73d3776cdbe0", // no FHIR type at all
	} {
		a := changeBody(t, name)
		if len(a.Agent) != 1 || a.Agent[0].Who["reference"] != want || !a.Agent[0].Requestor || a.Entity != nil {
			t.Errorf("%s: agent %+v, entity %v, want the requestor %s and no entity", name, a.Agent, a.Entity, want)
		}
	}
}

func TestChangeDeviation4B3HoldsARequestIDNotAB3Context(t *testing.T) {
	const requestID = "797fbdd1-194e-4bae-873b-8122d911624e"
	context := regexp.MustCompile(`^([0-9a-f]{32}|[0-9a-f]{16})-[0-9a-f]{16}(-.*)?$`)
	for _, kind := range []mapper.Kind{mapper.KindChange, mapper.KindExport} {
		b3 := header(t, eventOf(t, "export-accepted", kind, mapper.Facts{RequestID: requestID}), "b3")
		if b3 != requestID || context.MatchString(b3) {
			t.Errorf("%s: b3 is %q", kind, b3)
		}
	}
	e := eventOf(t, "consent-create", mapper.KindChange, mapper.Facts{RequestID: requestID})
	if site := body[auditEvent](t, e).Source.Site; site != requestID {
		t.Errorf("source.site %q is not what b3 holds", site)
	}
}

func TestChangeDeviation5PurposeCodeHasASpaceAndAnOwnSystem(t *testing.T) {
	for name, code := range map[string]string{
		"consent-create": "Consent Create", "consent-replace": "Consent Change", "consent-update-version": "Consent Change",
	} {
		want := []map[string]string{{"system": "https://www.icanbwell.com/event-purpose", "code": code}}
		if p := changeBody(t, name).Purpose; len(p) != 1 || !cmp.Equal(want, p[0].Coding) {
			t.Errorf("%s: %v", name, p)
		}
	}
	deleted := defaults()
	deleted.Deletes = true
	e := mapOne(t, deleted, readChange(t, "consent-delete-with-pre-image"), mapper.Facts{}).Events
	if len(e) != 1 || body[auditEvent](t, e[0]).Purpose[0].Coding[0]["code"] != "Consent Delete" {
		t.Errorf("delete: %+v", e)
	}
}

func TestChangeDeviation6HasWhatTheExampleOfTheSpecificationLacks(t *testing.T) {
	// The example has no type, recorded, agent.requestor and source.
	e := eventOf(t, "consent-create", mapper.KindChange, mapper.Facts{})
	want := []string{"resourceType", "id", "type", "action", "period", "recorded", "purposeOfEvent", "agent", "source"}
	if diff := cmp.Diff(want, members(t, e.Value)); diff != "" {
		t.Errorf("members, in order: %s", diff)
	}
}

// members lists the names of a JSON object's members in their order.
func members(t *testing.T, object []byte) (names []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	if brace, err := d.Token(); err != nil || brace != json.Delim('{') {
		t.Fatalf("no object: %v, %v", brace, err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
	}
	return names
}

func TestChangeDeviation7EveryCommittedChangeGivesAnEvent(t *testing.T) {
	// The server merges what happens to one id within its flush interval: of a
	// create and three changes it sends the create alone.
	m := mapper.New(defaults())
	var out mapper.Output
	for i := range 4 {
		op := "replace"
		if i == 0 {
			op = "insert"
		}
		var c mapper.Change
		m.Read(consent{operation: op, versionID: string(rune('1' + i)), lastUpdated: 1795395965947 + int64(i)}.raw(t), &c)
		appendTo(t, m, &c, mapper.Facts{}, &out)
	}
	var actions string
	ids := map[string]bool{}
	for _, e := range out.Events {
		actions += body[auditEvent](t, e).Action
		ids[e.ID] = true
	}
	if actions != "CUUU" || len(ids) != 4 {
		t.Errorf("actions %s with %d ids, want CUUU with 4", actions, len(ids))
	}
}

func TestChangeSourceTypeIsAnArrayOfOne(t *testing.T) {
	want := []map[string]string{{"system": "https://www.icanbwell.com/sourceType", "code": "proa"}}
	if diff := cmp.Diff(want, changeBody(t, "consent-source-type").Source.Type); diff != "" {
		t.Error(diff)
	}
	if got := changeBody(t, "consent-create").Source.Type; got != nil {
		t.Errorf("%v without the extension", got)
	}
}

func TestChangeKeyIsTheClientsIDNotTheUUID(t *testing.T) {
	if e := eventOf(t, "consent-create", mapper.KindChange, mapper.Facts{}); string(e.Key) != "con-1" {
		t.Errorf("key %q", e.Key)
	}
}
