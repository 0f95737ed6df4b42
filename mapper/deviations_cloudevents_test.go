package mapper_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

func TestExportDeviationNoContentTypeHeader(t *testing.T) {
	e := eventOf(t, "export-completed", mapper.KindExport, mapper.Facts{})
	if diff := cmp.Diff([]string{"b3", "version"}, headersOf(e)); diff != "" {
		t.Error(diff)
	}
}

func TestExportDeviationKeyIsTheEventsID(t *testing.T) {
	e := eventOf(t, "export-completed", mapper.KindExport, mapper.Facts{})
	if id := body[map[string]any](t, e)["id"]; string(e.Key) != e.ID || id != e.ID {
		t.Errorf("key %s, id %s, in the body %v", e.Key, e.ID, id)
	}
}

func TestExportDeviationEnteredInErrorIsReportedAsCompleted(t *testing.T) {
	for name, want := range map[string]string{
		"export-accepted": "ExportInitiated", "export-in-progress": "ExportStatusUpdated",
		"export-completed": "ExportCompleted", "export-entered-in-error": "ExportCompleted",
	} {
		b := body[map[string]any](t, eventOf(t, name, mapper.KindExport, mapper.Facts{}))
		status := b["data"].(map[string]any)["status"]
		if b["type"] != want || "export-"+status.(string) != name {
			t.Errorf("%s: type %v, status %v", name, b["type"], status)
		}
	}
}

func TestExportDeviationNeitherTimeNorSubject(t *testing.T) {
	b := body[map[string]any](t, eventOf(t, "export-completed", mapper.KindExport, mapper.Facts{}))
	for _, name := range []string{"time", "subject"} {
		if v, ok := b[name]; ok {
			t.Errorf("%s is %v", name, v)
		}
	}
}

func TestExportSourceIsNeverMissing(t *testing.T) {
	// The server leaves it out with meta.source: no valid CloudEvent.
	b := body[map[string]any](t, eventOf(t, "export-source-missing", mapper.KindExport, mapper.Facts{}))
	if b["source"] != "https://www.icanbwell.com/fhir-server" {
		t.Errorf("source %v", b["source"])
	}
}

func TestExportStatusGivesTwoRecordsForOneChange(t *testing.T) {
	var kinds []mapper.Kind
	for _, e := range mapOne(t, defaults(), readChange(t, "export-completed"), mapper.Facts{}).Events {
		kinds = append(kinds, e.Kind)
	}
	if diff := cmp.Diff([]mapper.Kind{mapper.KindChange, mapper.KindExport}, kinds); diff != "" {
		t.Error(diff)
	}
}

func TestAccessedEverythingDeviationKeyIsAnotherUUIDThanTheID(t *testing.T) {
	e := eventOf(t, "access-log-patient", mapper.KindAccessedEverything, mapper.Facts{})
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if id := header(t, e, "ce_id"); id != e.ID || string(e.Key) == id || !uuid.Match(e.Key) {
		t.Errorf("ce_id %s, id %s, key %s", id, e.ID, e.Key)
	}
}

func TestAccessedEverythingDeviationContentTypeIsThereTwice(t *testing.T) {
	e := eventOf(t, "access-log-patient", mapper.KindAccessedEverything, mapper.Facts{})
	for _, key := range []string{"content-type", "ce_datacontenttype"} {
		if got := header(t, e, key); got != "application/json;charset=utf-8" {
			t.Errorf("%s: %q", key, got)
		}
	}
}

func TestAccessedEverythingDeviationIntegrationsAreAJSONText(t *testing.T) {
	e := eventOf(t, "access-log-patient", mapper.KindAccessedEverything, mapper.Facts{})
	if got := header(t, e, "ce_integrations"); got != `["analytics"]` {
		t.Error(got)
	}
}

func TestAccessedEverythingHasNeitherB3NorVersion(t *testing.T) {
	e := eventOf(t, "access-log-patient", mapper.KindAccessedEverything, mapper.Facts{RequestID: "r"})
	want := []string{"ce_datacontenttype", "ce_id", "ce_integrations", "ce_source", "ce_specversion", "ce_time", "ce_type", "content-type"}
	if diff := cmp.Diff(want, headersOf(e)); diff != "" {
		t.Error(diff)
	}
}

func TestAccessedEverythingTimeIsTheRequestsNotOurs(t *testing.T) {
	for name, want := range map[string]string{
		"access-log-patient": "2026-11-23T01:08:40.087Z", "audit-event-patient": "2026-11-23T01:08:15.545Z",
	} {
		e := eventOf(t, name, mapper.KindAccessedEverything, mapper.Facts{})
		if got := header(t, e, "ce_time"); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAccessedEverythingLeavesOutWhatIsNotKnown(t *testing.T) {
	for _, c := range []struct {
		facts mapper.Facts
		want  string
	}{
		{mapper.Facts{}, `{"clientFhirPersonId":"c"}`},
		{mapper.Facts{BwellPersonID: "b"}, `{"bwellFhirPersonId":"b","clientFhirPersonId":"c"}`},
		{mapper.Facts{ManagingOrganization: "m"}, `{"managingOrganization":"m","clientFhirPersonId":"c"}`},
		{mapper.Facts{ManagingOrganization: "m", BwellPersonID: "b"}, `{"managingOrganization":"m","bwellFhirPersonId":"b","clientFhirPersonId":"c"}`},
	} {
		e := eventOf(t, "access-log-patient", mapper.KindAccessedEverything, c.facts)
		got := strings.Replace(string(e.Value), "e3b35308-0ad4-591b-b14f-0c3e15f45713", "c", 1)
		if got != c.want {
			t.Errorf("%+v: %s, want %s", c.facts, got, c.want)
		}
	}
}
