package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// deadLetter is a record of the dead-letter topic.
type deadLetter struct {
	Kind, Namespace, Operation, Reason, Stream string
	DocumentKey                                map[string]any
	ClusterTime                                struct{ T, I uint32 }
	ResumeToken                                map[string]any
}

func (i *installation) deadLetters(records []harness.Record) []deadLetter {
	i.t.Helper()
	var letters []deadLetter
	for _, r := range harness.Of(records, i.site.Topics.DeadLetters) {
		var l deadLetter
		if err := json.Unmarshal(r.Value, &l); err != nil {
			i.t.Fatalf("dead letter %q: %v", r.Value, err)
		}
		if l.ClusterTime.T == 0 || l.ResumeToken["_data"] == nil || l.Stream == "" {
			i.t.Errorf("the dead letter does not say where its change is: %s", r.Value)
		}
		letters = append(letters, l)
	}
	return letters
}

// malformed is a document that cannot be made an event, and what is said of it.
type malformed struct {
	name       string
	collection string
	document   bson.D
	// want is a kind and a part of the reason for each dead letter.
	want [][2]string
	// also is how many events come of the document in spite of it.
	also int
}

// tooLarge names the document whose only fault is the size of its event.
const tooLarge = "request of two megabytes"

// malformedDocuments are one of each sort. Where a value is wrong, it holds text,
// which nothing that is said of the document may repeat.
func malformedDocuments(i *installation, text string) []malformed {
	change := func(reason string) [][2]string { return [][2]string{{"change", reason}} }
	export := func(reason string) [][2]string { return [][2]string{{"export", reason}} }
	both := func(reason string) [][2]string { return append(change(reason), export(reason)...) }
	consent := func(name string, set func(bson.D) bson.D, reason string) malformed {
		return malformed{name, "Consent_4_0_0", set(i.document("Consent", i.fhir.Consent())), change(reason), 0}
	}
	job := func(name string, set func(bson.D) bson.D, want [][2]string, also int) malformed {
		return malformed{name, "ExportStatus_4_0_0", set(i.document("ExportStatus", i.fhir.ExportStatus())), want, also}
	}
	meta := func(version, lastUpdated any) func(bson.D) bson.D {
		return fhirserver.Set("meta", bson.D{{Key: "versionId", Value: version}, {Key: "lastUpdated", Value: lastUpdated}})
	}
	wrong := bson.D{{Key: text, Value: bson.A{text}}}
	now := i.fhir.NewRequest("").At
	return []malformed{
		consent("no id", without("id"), "id is missing"),
		consent("id of another type", fhirserver.Set("id", wrong), "id is not a string"),
		consent("id is empty", fhirserver.Set("id", ""), "id is empty"),
		consent("uuid of another type", fhirserver.Set("_uuid", wrong), "_uuid is not a string"),
		consent("version of another type", meta(wrong, now), "meta.versionId is not a string"),
		consent("time of another type", meta("1", text), "meta.lastUpdated is not a date"),
		consent("time far away", meta("1", bson.DateTime(1<<60)), "outside the years"),
		consent("source type of another type", fhirserver.Set("extension", bson.A{bson.D{
			{Key: "url", Value: "https://www.icanbwell.com/sourceType"}, {Key: "valueString", Value: wrong},
		}}), "sourceType"),
		job("job without id", without("id"), both("id is missing"), 0),
		job("unknown status", fhirserver.Set("status", text), export("status is none of"), 1),
		job("no status", without("status"), export("status is missing"), 1),
		job("status of another type", fhirserver.Set("status", wrong), export("status is not a string"), 1),
		job("request of another type", fhirserver.Set("request", wrong), export("request is not a string"), 1),
		job("source of another type", fhirserver.Set("meta", bson.D{
			{Key: "versionId", Value: "1"}, {Key: "lastUpdated", Value: now}, {Key: "source", Value: wrong},
		}), export("meta.source is not a string"), 1),
		job("transaction time of another type", fhirserver.Set("transactionTime", wrong), export("transactionTime"), 1),
		job(tooLarge, fhirserver.Set("request", strings.Repeat(text, 2<<20/len(text))), export("the event has 20"), 1),
	}
}

// document is a resource of the server's form that has not been written.
func (i *installation) document(resourceType string, content bson.D) bson.D {
	id := bson.NewObjectID()
	return append(bson.D{
		{Key: "_id", Value: id},
		{Key: "_uuid", Value: fhirserver.UUID(id.Hex(), fhirserver.Owner)},
		{Key: "id", Value: "bad-" + id.Hex()},
		{Key: "meta", Value: bson.D{{Key: "versionId", Value: "1"}, {Key: "lastUpdated", Value: i.fhir.NewRequest("").At}}},
		{Key: "resourceType", Value: resourceType},
	}, content...)
}

func without(key string) func(bson.D) bson.D {
	return func(d bson.D) bson.D {
		var kept bson.D
		for _, e := range d {
			if e.Key != key {
				kept = append(kept, e)
			}
		}
		return kept
	}
}

// What cannot be made an event is recorded with its place and a reason, and the
// stream goes on.
func TestDeadLetters(t *testing.T) {
	i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).with("FHIR_CDC_FACTS_REQUEST_ID", "false")
	i.start()
	want, events := map[string]malformed{}, 0
	var letters int
	for _, m := range malformedDocuments(i, "paused") {
		i.check(i.fhir.Insert(i.ctx, m.collection, m.document))
		id, _ := m.document[0].Value.(bson.ObjectID)
		want[id.Hex()] = m
		letters += len(m.want)
		events += m.also
	}
	last := i.consent("last")
	reader := i.reader()
	i.until(reader, changeID(last))
	records, err := reader.End(i.ctx)
	i.check(err)

	if got := len(records) - len(harness.Of(records, i.site.Topics.DeadLetters)); got != events+1 {
		t.Errorf("%d events, want %d", got, events+1)
	}
	got := i.deadLetters(records)
	if len(got) != letters {
		t.Errorf("%d dead letters, want %d", len(got), letters)
	}
	found := map[string]bool{}
	for _, l := range got {
		id, _ := l.DocumentKey["_id"].(map[string]any)
		hex, _ := id["$oid"].(string)
		m := want[hex]
		for _, w := range m.want {
			if l.Kind == w[0] && strings.Contains(l.Reason, w[1]) {
				found[hex+w[0]] = true
			}
		}
		if l.Namespace != i.site.Databases.Main+"."+m.collection || l.Operation != "insert" {
			t.Errorf("%s: dead letter %+v", m.name, l)
		}
	}
	for hex, m := range want {
		for _, w := range m.want {
			if !found[hex+w[0]] {
				t.Errorf("%s: no dead letter of kind %s with reason %q", m.name, w[0], w[1])
			}
		}
	}
}

// With the policy stop, an event that cannot be made ends the daemon right before
// it; with the other policy a restart goes on there.
func TestPolicyStop(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_EVENTS_EXPORT_ON_FAILURE", "stop")
	d := i.start()
	first := i.consent("first")
	reader := i.reader()
	i.until(reader, changeID(first))
	i.stop(d)

	// Written while it is down, these are one batch.
	job, err := i.fhir.CreateExportStatus(i.ctx, "3f0e8b8e-3c3e-4f4d-9d7e-6c1f6b1f6a10")
	i.check(err)
	paused, err := i.fhir.SetStatus(i.ctx, job, "paused")
	i.check(err)
	last := i.consent("last")
	d, code := i.run(harness.Options{})
	if code != exitStopped {
		t.Errorf("exit code %d, want %d", code, exitStopped)
	}
	logHas(t, d, "events.export.on_failure: stop", "ExportStatus_4_0_0", "status is none of")
	i.exactly(reader, changeID(first), changeID(job), exportID(job))

	if _, code := i.run(harness.Options{}); code != exitStopped {
		t.Errorf("exit code %d after a restart with the same policy, want %d", code, exitStopped)
	}
	i.with("FHIR_CDC_EVENTS_EXPORT_ON_FAILURE", "dead_letter").start()
	records := i.exactly(reader, changeID(first), changeID(job), exportID(job), changeID(paused), changeID(last), "")
	if letters := i.deadLetters(records); len(letters) != 1 || letters[0].Kind != "export" {
		t.Errorf("dead letters %+v, want one of kind export", letters)
	}
}
