package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// compactEvent is the value of a compact event, but for the times.
type compactEvent struct {
	EventID, Timestamp                             string
	ResourceType, ResourceID, Operation, VersionID string
	PatientReference, SourceOwner                  *string
}

// compactWrites are the writes of a test of compact events.
type compactWrites struct {
	*installation
	ids []string
	// want are the operations and versions of each key, in their order.
	want map[string][]string
	// deleted are the ids of deletes, which only the oplog tells.
	deleted []string
}

func (w *compactWrites) wrote(r fhirserver.Resource, operation string) fhirserver.Resource {
	id := compactID(r)
	if operation == "delete" {
		id = harness.ResourceDeleteID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
		w.deleted = append(w.deleted, id)
	}
	w.ids = append(w.ids, id)
	key := r.Type + "/" + r.ID
	w.want[key] = append(w.want[key], operation+" "+r.VersionID)
	return r
}

func (w *compactWrites) create(resource, id string, content bson.D) fhirserver.Resource {
	w.t.Helper()
	r, err := w.fhir.Create(w.ctx, resource, id, fhirserver.Owner, content)
	w.check(err)
	return w.wrote(r, "create")
}

func (w *compactWrites) replace(r fhirserver.Resource) fhirserver.Resource {
	w.t.Helper()
	next, err := w.fhir.Replace(w.ctx, r, fhirserver.Set("status", "amended"))
	w.check(err)
	return w.wrote(next, "update")
}

func (w *compactWrites) remove(r fhirserver.Resource) {
	w.t.Helper()
	w.check(w.fhir.Delete(w.ctx, r))
	w.wrote(r, "delete")
}

// reference is a subject or patient.
func referring(field string, to any) bson.D {
	return bson.D{{Key: "status", Value: "final"}, {Key: field, Value: to}}
}

// Compact events are there once, in the order of each key, through SIGKILL; a replay makes
// them again to the byte, a backfill all but those of deletes, and a verification is
// content. A delete without pre-image is a dead letter.
func TestResourceChange(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.site = i.site.WithResourceChange("Patient", "Observation", "Condition", "Account")
	i.env = harness.With(i.site.Env(),
		"ENABLE_EVENTS_KAFKA", "0", "ENABLE_BULK_EXPORT_KAFKA_EVENTS", "0", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS", "0", "FHIR_CDC_REPLICAS", "none")
	main := shared.client.Database(i.site.Databases.Main)
	for _, collection := range []string{"Patient_4_0_0", "Observation_4_0_0", "Condition_4_0_0"} {
		i.check(main.CreateCollection(i.ctx, collection, options.CreateCollection().SetChangeStreamPreAndPostImages(bson.D{{Key: "enabled", Value: true}})))
	}
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	reader := harness.NewReader(t, i.site.Brokers, i.site.Topics.ResourceChange, i.site.Topics.DeadLetters)
	w := &compactWrites{installation: i, want: map[string][]string{}}

	patient := w.create("Patient", "same-id", bson.D{{Key: "active", Value: true}})
	reference := bson.D{{Key: "reference", Value: "Patient/same-id"}}
	w.create("Condition", "con-1", referring("patient", bson.D{{Key: "reference", Value: "Group/g-1"}}))
	w.create("Observation", "of-a-device", referring("subject", bson.D{{Key: "reference", Value: "Device/d-1"}}))
	account := w.create("Account", "acc-1", referring("subject", bson.A{reference}))
	for n := range 60 {
		o := w.create("Observation", fmt.Sprintf("obs-%d", n), append(referring("subject", reference), bson.E{Key: "note", Value: strings.Repeat("x", 1000)}))
		switch o = w.replace(o); {
		case n%20 == 10:
			i.check(d.Kill())
			d = i.start()
		case n%3 == 0:
			w.remove(o)
		case n%3 == 1:
			w.remove(o)
			w.create("Observation", o.ID, referring("subject", reference))
		}
	}
	same := w.create("Observation", "same-id", referring("subject", reference))
	other, err := i.fhir.Update(i.ctx, same, fhirserver.Set("status", "amended"))
	i.check(err)
	w.wrote(other, "update")
	w.remove(w.replace(patient))
	i.check(i.fhir.Delete(i.ctx, account))
	w.create("Patient", "last", nil)

	i.until(reader, w.ids...)
	all, err := reader.End(i.ctx)
	i.check(err)
	live := harness.Of(all, i.site.Topics.ResourceChange)
	if diff := cmp.Diff(count(w.ids), count(harness.EventIDs(live))); diff != "" {
		t.Errorf("event ids (-want +got):\n%s", diff)
	}
	w.are(live)
	letters := i.deadLetters(all)
	if len(letters) != 1 || letters[0].Kind != "resource_change" || letters[0].Operation != "delete" || !strings.Contains(letters[0].Reason, "changeStreamPreAndPostImages") {
		t.Errorf("the dead letters are %+v, want the deletion of the account", letters)
	}

	i.succeeds("replay", "--from-time", since, "--topic-prefix", "again.")
	again, err := harness.NewReader(t, i.site.Brokers, "again."+i.site.Topics.ResourceChange, "again."+i.site.Topics.DeadLetters).End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(byTopicAndKey(all, ""), byTopicAndKey(again, "again.")); diff != "" {
		t.Errorf("the replay differs from what was live (-live +replay):\n%s", diff)
	}
	i.awaitPosition(since, len(w.ids))
	if v := i.verify("--since", since); !v.Clean {
		t.Errorf("verify: %+v", v)
	}
	byID := contents(t, live, "")
	for _, from := range []string{"history", "collections"} {
		want := len(w.ids) - len(w.deleted) - 1 // The update of another writer has no history.
		if from == "collections" {
			want = w.remaining()
		}
		if done := i.backfill("--from", from, "--topic-prefix", from+"."); done.Events != want || done.DeadLetters != 0 {
			t.Errorf("a backfill from %s has done %+v, want %d events", from, done, want)
		}
		records, err := harness.NewReader(t, i.site.Brokers, from+"."+i.site.Topics.ResourceChange).End(i.ctx)
		i.check(err)
		for id, c := range contents(t, records, from+".") {
			if diff := cmp.Diff(byID[id], c); diff != "" {
				t.Errorf("from %s (-live +backfill):\n%s", from, diff)
			}
		}
	}
	i.stop(d)
}

// remaining is the number of resources that are there at the end. The Account is gone too.
func (w *compactWrites) remaining() (n int) {
	for key, operations := range w.want {
		if key != "Account/acc-1" && !strings.HasPrefix(operations[len(operations)-1], "delete") {
			n++
		}
	}
	return n
}

// are compares the contents of the records with what was written.
func (w *compactWrites) are(records []harness.Record) {
	w.t.Helper()
	got := map[string][]string{}
	for _, r := range records {
		var e compactEvent
		w.check(json.Unmarshal(r.Value, &e))
		if r.Key != e.ResourceType+"/"+e.ResourceID || r.Headers.Get("version") != "R4" || len(r.Headers) != 2 {
			w.t.Errorf("%s: key %s, headers %v", r.Value, r.Key, r.Headers)
		}
		got[r.Key] = append(got[r.Key], e.Operation+" "+e.VersionID)
		at, err := time.Parse("2006-01-02T15:04:05.000Z", e.Timestamp)
		w.check(err)
		if e.EventID != fmt.Sprintf("%s-%d", e.ResourceID, at.UnixMilli()) || time.Since(at).Abs() > time.Hour {
			w.t.Errorf("eventId %s, timestamp %s", e.EventID, e.Timestamp)
		}
		patient := map[string]string{"Condition/con-1": "Group/g-1", "Observation/of-a-device": "", "Account/acc-1": "", "Patient/last": "Patient/last"}
		want, special := patient[r.Key]
		if !special {
			want = "Patient/same-id"
		}
		if (e.PatientReference == nil) != (want == "") || (want != "" && *e.PatientReference != want) {
			w.t.Errorf("patientReference of %s", r.Value)
		}
		if e.SourceOwner == nil || *e.SourceOwner == "" {
			w.t.Errorf("sourceOwner of %s", r.Value)
		}
	}
	if diff := cmp.Diff(w.want, got); diff != "" {
		w.t.Errorf("operations and versions by key (-want +got):\n%s", diff)
	}
	if !slices.Contains(w.want["Observation/obs-1"], "delete 2") || w.want["Observation/obs-1"][3] != "create 1" {
		w.t.Errorf("nothing was deleted and created again: %v", w.want["Observation/obs-1"])
	}
}
