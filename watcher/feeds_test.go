package watcher_test

import (
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func testSeveralDatabases(t *testing.T, d *deployment) {
	spec := specOf(d.mapping())
	if spec.Database() != "" {
		t.Fatalf("the stream is one over database %s", spec.Database())
	}
	w := d.watcher(t, spec)
	from := begin(t, w)
	var want []string
	write := func(database, collection string, document bson.D, watched bool) {
		insert(t, d.database(t, database).Collection(collection), document)
		if watched {
			want = append(want, database+"."+collection)
		}
	}
	write("fhir", "Consent_4_0_0", consent("1"), true)
	write("fhir", "Patient_4_0_0", consent("2"), false)
	write("access-logs", "access-logs", accessLog(nil), true)
	write("other", "Consent_4_0_0", consent("3"), false)
	write("access-logs", "Consent_4_0_0", consent("4"), false)
	write("audit-event", "AuditEvent_4_0_0", auditEvent(nil), true)
	write("fhir", "Consent_3_0_1", consent("5"), true)
	write("fhir", "Consent_4_0_0_History", consent("6"), false)
	write("fhir", "Person_4_0_0", consent("7"), true)
	write("fhir", "ExportStatus_4_0_0", consent("8"), true)
	var got []string
	for _, raw := range read(t, w, from, len(want)) {
		ns := raw.Lookup("ns", "db").StringValue() + "." + raw.Lookup("ns", "coll").StringValue()
		got = append(got, strings.Replace(ns, "-"+d.name, "", 1))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// accessLog is an access log of a patient's $everything, with changed fields of its
// request or of itself.
func accessLog(change map[string]any) bson.D {
	fields := map[string]any{"url": "/4_0_0/Patient/1/$everything", "outcomeDesc": "Success"}
	for k, v := range change {
		fields[k] = v
	}
	return bson.D{
		{Key: "outcomeDesc", Value: fields["outcomeDesc"]},
		{Key: "details", Value: bson.D{{Key: "body", Value: "Marvolo"}}},
		{Key: "request", Value: bson.D{{Key: "url", Value: fields["url"]}, {Key: "systemGeneratedRequestId", Value: "r"}}},
	}
}

func auditEvent(change map[string]any) bson.D {
	fields := map[string]any{"url": "/4_0_0/Patient/1/$everything", "action": "R"}
	for k, v := range change {
		fields[k] = v
	}
	return bson.D{
		{Key: "action", Value: fields["action"]},
		{Key: "entity", Value: bson.A{
			bson.D{{Key: "what", Value: bson.D{{Key: "reference", Value: "Marvolo/1"}}}},
			bson.D{{Key: "detail", Value: bson.A{
				bson.D{{Key: "type", Value: "requestUrl"}, {Key: "valueString", Value: fields["url"]}},
				bson.D{{Key: "type", Value: "requestId"}, {Key: "valueString", Value: "r"}},
			}}},
		}},
	}
}

// urls are request URLs and whether the server lets their access through. The mapper
// looks closer.
func urls() map[string]bool {
	return map[string]bool{
		"/4_0_0/Patient/1/$everything":                   true,
		"/4_0_0/Patient/$everything?id=1":                true,
		"/4_0_0/Person/1/$everything?_type=a&b=c/d":      true,
		"https://fhir.example/4_0_0/Patient/$everything": true,
		"/4_0_0/Patient/1":                               false,
		"/4_0_0/Patient?name=$everything":                false,
		"/4_0_0/Patient/1/$everything-else":              false,
		"/4_0_0/Patient/1/_history":                      false,
		"":                                               false,
	}
}

func testAccessLogFilter(t *testing.T, d *deployment) {
	var documents []bson.D
	passing := 1
	for url, passes := range urls() {
		documents = append(documents, accessLog(map[string]any{"url": url}))
		if passes {
			passing++
		}
	}
	documents = append(documents, accessLog(map[string]any{"outcomeDesc": "Error"}), accessLog(map[string]any{"outcomeDesc": nil}),
		accessLog(map[string]any{"url": 7}), bson.D{{Key: "request", Value: "text"}})
	filtered(t, d, "access-logs", "access-logs", documents, accessLog(map[string]any{"url": "/last/Patient/$everything"}), "accessLog", passing)
}

func testAuditEventFilter(t *testing.T, d *deployment) {
	var documents []bson.D
	passing := 1
	for url, passes := range urls() {
		documents = append(documents, auditEvent(map[string]any{"url": url}))
		if passes {
			passing++
		}
	}
	documents = append(documents, auditEvent(map[string]any{"action": "E"}), auditEvent(map[string]any{"action": nil}),
		auditEvent(map[string]any{"url": 7}), bson.D{{Key: "action", Value: "R"}, {Key: "entity", Value: "text"}})
	filtered(t, d, "audit-event", "AuditEvent_4_0_0", documents, auditEvent(map[string]any{"url": "/last/Patient/$everything"}), "auditEvent", passing)
}

// filtered writes documents and a last one, and expects the changes that pass.
func filtered(t *testing.T, d *deployment, database, collection string, documents []bson.D, last bson.D, field string, passing int) {
	t.Helper()
	w := d.watcher(t, specOf(d.mapping()))
	from := begin(t, w)
	c := d.database(t, database).Collection(collection)
	for _, doc := range append(documents, last) {
		insert(t, c, doc)
	}
	// What is written later is not read: only inserts count.
	if _, err := c.UpdateMany(t.Context(), bson.D{}, set(bson.E{Key: "x", Value: 1})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteMany(t.Context(), bson.D{}); err != nil {
		t.Fatal(err)
	}
	insert(t, c, last)
	for i, raw := range read(t, w, from, passing+1) {
		text := raw.Lookup(field).String()
		if !strings.Contains(text, "$everything") || strings.Contains(raw.String(), "Marvolo") {
			t.Errorf("passed: %s", raw)
		}
		if isLast := strings.Contains(text, "/last/"); isLast != (i >= passing-1) {
			t.Errorf("change %d of %d is %s", i, passing+1, text)
		}
	}
}
