package e2e_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// The types below are the events as the specification shows them, member by member
// in its order. They are not the daemon's: it writes its bytes by hand.

type coding struct {
	System string `json:"system,omitempty"`
	Code   string `json:"code"`
}

type reference struct {
	Reference string `json:"reference"`
}

type auditEvent struct {
	ResourceType string `json:"resourceType"`
	ID           string `json:"id"`
	Type         coding `json:"type"`
	Action       string `json:"action"`
	Period       struct {
		Start string `json:"start"`
		End   string `json:"end"`
	} `json:"period"`
	Recorded string        `json:"recorded"`
	Purpose  []purpose     `json:"purposeOfEvent"`
	Agent    []changeAgent `json:"agent"`
	Source   changeSource  `json:"source"`
}

type purpose struct {
	Coding []coding `json:"coding"`
}

type changeAgent struct {
	Who       reference `json:"who"`
	Requestor bool      `json:"requestor"`
}

type changeSource struct {
	Site     string    `json:"site,omitempty"`
	Observer reference `json:"observer"`
	Type     []coding  `json:"type,omitempty"`
}

type exportEvent struct {
	SpecVersion string     `json:"specversion"`
	ID          string     `json:"id"`
	Source      string     `json:"source"`
	Type        string     `json:"type"`
	ContentType string     `json:"datacontenttype"`
	Data        exportData `json:"data"`
}

type exportData struct {
	Job             string `json:"exportJobId"`
	TransactionTime string `json:"transactionTime,omitempty"`
	Request         string `json:"request,omitempty"`
	Status          string `json:"status"`
}

type usage struct {
	Organization string `json:"managingOrganization,omitempty"`
	BwellPerson  string `json:"bwellFhirPersonId,omitempty"`
	ClientPerson string `json:"clientFhirPersonId,omitempty"`
}

// versioned are the headers of change and export events.
func versioned(b3 string) harness.Headers {
	return harness.Headers{{Key: "b3", Value: b3}, {Key: "version", Value: "R4"}}
}

func compact(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

// expectedChanges are the change events of the recorded inserts and replaces of the
// resource types that are enabled by default.
func expectedChanges(t *testing.T, r recording, site harness.Site) []expectation {
	t.Helper()
	var all []expectation
	for _, c := range r.changes {
		resource := c.of()
		if (resource != "Consent" && resource != "ExportStatus") || c.Operation == "delete" {
			continue
		}
		d := c.Document
		namespace := site.Databases.Main + "." + c.Namespace.Collection
		updated := date(t, d, "meta", "lastUpdated")
		id := harness.ChangeID(namespace, text(d, "_uuid"), text(d, "meta", "versionId"), updated)

		// ExportStatus has no history; its job stands for the request.
		request := text(d, "id")
		if resource == "Consent" {
			if request = historyOf(r, d); request == "" {
				t.Fatalf("the recording has no history of Consent/%s version %s", text(d, "id"), text(d, "meta", "versionId"))
			}
		}
		action, word := "C", "Create"
		if c.Operation == "replace" {
			action, word = "U", "Change"
		}
		e := auditEvent{ResourceType: "AuditEvent", ID: id, Type: coding{Code: "110100"}, Action: action, Recorded: updated.Format(time.DateOnly)}
		e.Period.Start, e.Period.End = e.Recorded, e.Recorded
		e.Purpose = []purpose{{[]coding{{"https://www.icanbwell.com/event-purpose", resource + " " + word}}}}
		e.Agent = []changeAgent{{reference{resource + "/" + text(d, "id")}, true}}
		e.Source = changeSource{Site: request, Observer: reference{"Organization/bwell"}}
		for _, x := range elements(d, "extension") {
			if url := "https://www.icanbwell.com/sourceType"; text(x, "url") == url {
				e.Source.Type = []coding{{url, text(x, "valueString")}}
			}
		}
		all = append(all, expectation{
			id: id, key: text(d, "id"), headers: versioned(request), value: compact(t, e),
		})
	}
	// 26 inserts and 23 replaces of the recording.
	if len(all) != 49 {
		t.Fatalf("the recording has %d changes of Consent and ExportStatus, want 49", len(all))
	}
	return all
}

// expectedExports are the bulk export events of the recorded ExportStatus changes.
func expectedExports(t *testing.T, r recording, site harness.Site) []expectation {
	t.Helper()
	types := map[string]string{
		"accepted": "ExportInitiated", "in-progress": "ExportStatusUpdated",
		"completed": "ExportCompleted", "entered-in-error": "ExportCompleted",
	}
	var all []expectation
	for _, c := range r.changes {
		if c.of() != "ExportStatus" {
			continue
		}
		d := c.Document
		namespace := site.Databases.Main + "." + c.Namespace.Collection
		id := harness.ExportID(namespace, text(d, "_uuid"), text(d, "meta", "versionId"), date(t, d, "meta", "lastUpdated"))
		all = append(all, expectation{
			id: id, key: id, headers: versioned(text(d, "id")),
			value: compact(t, exportEvent{
				SpecVersion: "1.0", ID: id, Source: text(d, "meta", "source"), Type: types[text(d, "status")], ContentType: "application/json",
				Data: exportData{text(d, "id"), text(d, "transactionTime"), text(d, "request"), text(d, "status")},
			}),
		})
	}
	if len(all) != 12 {
		t.Fatalf("the recording has %d changes of ExportStatus, want 12", len(all))
	}
	return all
}

// everythingSteps are the requests for which the server sent a usage
// event in the recording.
func everythingSteps() []string {
	return []string{
		"d01-everything-patient", "d02-everything-person", "d05-everything-proxy-patient", "d06-everything-by-query",
		"d07-everything-with-body", "d08-everything-content-length-0", "d09-everything-content-type-only",
		"d11-everything-no-org-claim", "d12-everything-other-patient", "d19-everything-person-patient-only-scope",
		"d20-everything-ndjson", "d21-everything-type-empty", "d23-everything-master-person", "d25-everything-no-request-id",
		"d26-everything-delegated", "d31-everything-empty-body", "d32-everything-person-body", "d34-everything-delegated-body",
		"d27-everything-aborted",
	}
}

// untracedSteps are those of them that returned nothing: MongoDB holds no trace.
func untracedSteps() []string {
	return []string{"d12-everything-other-patient", "d21-everything-type-empty", "d23-everything-master-person"}
}

// trace is what MongoDB holds of a successful request: an access log or AuditEvent.
type trace struct {
	requestID string
	at        time.Time
}

// tracesOf finds the traces of a step's request: what was written in its time, with
// an access log of success or a patient's read.
func tracesOf(t *testing.T, r recording, step string) []trace {
	t.Helper()
	from, to := r.window(t, step)
	var traces []trace
	for _, c := range r.changes {
		var at trace
		switch c.Namespace.Database {
		case "access-logs":
			if text(c.Document, "outcomeDesc") != "Success" {
				continue
			}
			at = trace{text(c.Document, "request", "systemGeneratedRequestId"), date(t, c.Document, "timestamp")}
		case "audit-event":
			if text(c.Document, "action") != "R" {
				continue
			}
			at = trace{requestOf(c.Document), date(t, c.Document, "recorded")}
		default:
			continue
		}
		if !at.at.Before(from) && at.at.Before(to) {
			traces = append(traces, at)
		}
	}
	return traces
}

func requestOf(auditEvent bson.Raw) string {
	for _, entity := range elements(auditEvent, "entity") {
		for _, d := range elements(entity, "detail") {
			if text(d, "type") == "requestId" {
				return text(d, "valueString")
			}
		}
	}
	return ""
}

// expectedAccesses are the usage events: one for each request with a trace.
func expectedAccesses(t *testing.T, r recording) []expectation {
	t.Helper()
	const contentType = "application/json;charset=utf-8"
	const person = "e3b35308-0ad4-591b-b14f-0c3e15f45713"
	var all []expectation
	for _, step := range everythingSteps() {
		traces := tracesOf(t, r, step)
		if untraced := slices.Contains(untracedSteps(), step); untraced != (len(traces) == 0) {
			t.Fatalf("step %s has %d traces", step, len(traces))
		}
		if len(traces) == 0 {
			continue
		}
		for _, other := range traces {
			if other.requestID != traces[0].requestID || other.requestID == "" {
				t.Fatalf("step %s has traces of several requests", step)
			}
		}
		id := harness.AccessedEverythingID(traces[0].requestID)
		all = append(all, expectation{
			id: id,
			headers: harness.Headers{
				{Key: "content-type", Value: contentType},
				{Key: "ce_id", Value: id},
				{Key: "ce_time", Value: fhirserver.Instant(traces[0].at)},
				{Key: "ce_type", Value: "AccessedEverything"},
				{Key: "ce_source", Value: "https://www.icanbwell.com/fhir-server"},
				{Key: "ce_specversion", Value: "1.0"},
				{Key: "ce_datacontenttype", Value: contentType},
				{Key: "ce_integrations", Value: `["analytics"]`},
			},
			value: compact(t, usage{"org-1", "7949b297-5cb3-56bf-926b-6100dd9793b5", person}),
		})
	}
	if len(all) != 16 {
		t.Fatalf("%d requests have left a trace, want 16", len(all))
	}
	return all
}

// expectedLinks are the server's own messages, but for id and time: those are of the last
// version of the Person before the message.
func expectedLinks(t *testing.T, r recording, site harness.Site) (all []expectation) {
	t.Helper()
	for _, m := range r.of("fhir.manual.person.linking.events") {
		e := expectation{key: m.Key, headers: m.headers(), value: m.Value}
		sent, err := time.Parse(time.RFC3339, e.headers.Get("ce_time"))
		if err != nil {
			t.Fatal(err)
		}
		var at time.Time
		for _, c := range r.changes {
			if c.of() != "Person" || text(c.Document, "_uuid") != m.Key || date(t, c.Document, "meta", "lastUpdated").After(sent) {
				continue
			}
			at = date(t, c.Document, "meta", "lastUpdated")
			e.id = harness.PersonLinkID(site.Databases.Main+"."+c.Namespace.Collection, m.Key, text(c.Document, "meta", "versionId"), at)
		}
		for i := range e.headers {
			switch e.headers[i].Key {
			case "ce_id":
				e.headers[i].Value = e.id
			case "ce_time":
				e.headers[i].Value = fhirserver.Instant(at)
			}
		}
		all = append(all, e)
	}
	if len(all) != 2 {
		t.Fatalf("the server sent %d person link events, want 2", len(all))
	}
	return all
}
