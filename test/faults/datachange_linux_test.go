package faults_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// openPatients are those of one window, and openMemory what they may take, in MiB.
	openPatients, openMemory = 100_000, 100
	// members is the number of patients of a Group.
	members = 10_000
)

// dataChanges is an installation with data change events alone.
func dataChanges(t *testing.T, mongoURI string, brokers []string, window string) *installation {
	t.Helper()
	m := exactlyOnce()
	m.env["FHIR_CDC_REPLICAS"] = "none"
	i := install(t, m, harness.NewSite(t, mongoURI, brokers).WithDataChanges(window))
	for _, kind := range []string{"ENABLE_EVENTS_KAFKA", "ENABLE_BULK_EXPORT_KAFKA_EVENTS", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS"} {
		i.env[kind] = "0"
	}
	return i
}

// groupOf is the content of a Group of patients.
func groupOf(patients []string) bson.D {
	var list bson.A
	for _, p := range patients {
		list = append(list, bson.D{{Key: "entity", Value: bson.D{{Key: "reference", Value: "Patient/" + p}, {Key: "_uuid", Value: "Patient/" + p}}}})
	}
	return bson.D{{Key: "member", Value: list}}
}

// TestDataChangesMemory opens windows with many patients: what they take is bounded, and each has
// its events.
func TestDataChangesMemory(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	mongoURI, brokers := ownMongoDB(t), sharedBrokers(t)
	i := dataChanges(t, mongoURI, brokers, "15s")
	server := fhirserver.New(connect(t, mongoURI), fhirserver.Options{Databases: i.site.Databases})
	d := i.startReady(ctx)
	before := peakMemory(t, d)
	want := map[string]bool{}
	for g := range openPatients / members {
		var patients []string
		for range members {
			p := uuid.NewString()
			patients, want[p] = append(patients, p), true
		}
		if _, err := server.Create(ctx, "Group", fmt.Sprintf("group-%d", g), fhirserver.Owner, groupOf(patients)); err != nil {
			t.Fatal(err)
		}
	}
	reader := harness.NewReader(t, brokers, i.site.Topics.PatientData)
	if _, err := reader.Until(ctx, func(records []harness.Record) bool { return len(records) >= openPatients }); err != nil {
		t.Fatal(err)
	}
	records, err := reader.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if !want[r.Key] {
			t.Fatalf("an event of the patient %s that is none, or a second one", r.Key)
		}
		delete(want, r.Key)
	}
	peak := peakMemory(t, d)
	t.Logf("%d patients: %d MiB at most, %d before", len(records), peak, before)
	if peak-before > openMemory {
		t.Errorf("%d patients took %d MiB, may take %d", len(records), peak-before, openMemory)
	}
}

// TestDataChangesRepair has the oplog lose the position while resources are written, moved and
// deleted, by a FHIR server whose clock is ahead: each patient that was concerned has an event, and
// each event is there once although the repair is killed in its midst.
func TestDataChangesRepair(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	brokers := sharedBrokers(t)
	i := dataChanges(t, m.URI, brokers, "1s")
	client := connect(t, m.URI)
	ahead := func() time.Time { return time.Now().Add(time.Minute) }
	server := fhirserver.New(client, fhirserver.Options{Databases: i.site.Databases, Now: ahead})
	create := func(resource, id string, content bson.D) fhirserver.Resource {
		t.Helper()
		r, err := server.Create(ctx, resource, id, fhirserver.Owner, content)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	subject := func(patient string) bson.D {
		return bson.D{{Key: "subject", Value: bson.D{{Key: "_uuid", Value: "Patient/" + patient}}}}
	}
	stop := func(d *harness.Daemon) {
		t.Helper()
		if code, err := d.Stop(ctx); err != nil || code != 0 {
			t.Fatalf("stopped with exit code %d, error %v", code, err)
		}
	}
	stop(i.startReady(ctx))
	patients := map[string]string{} // and their types
	for n := range 20 {
		patient := fmt.Sprintf("%08d-0000-4000-8000-000000000000", n)
		o := create("Observation", fmt.Sprintf("obs-%d", n), subject(patient))
		patients[patient] = "Observation"
		switch n % 3 {
		case 0:
			if err := server.Delete(ctx, o); err != nil {
				t.Fatal(err)
			}
		case 1:
			if _, err := server.Replace(ctx, o, func(bson.D) bson.D { return subject("the-new-one") }); err != nil {
				t.Fatal(err)
			}
		}
	}
	person := create("Person", "per-1", bson.D{{Key: "link", Value: bson.A{
		bson.D{{Key: "target", Value: bson.D{{Key: "_uuid", Value: "Patient/00000002-0000-4000-8000-000000000000"}}}},
	}}})
	lost := gone{code: 286, reaches: true} // Two refusals: no requests are read back before.
	if err := lost.answer(ctx, client.Database("admin"), "fhir-cdc/"+i.site.Name); err != nil {
		t.Fatal(err)
	}
	i.crashAt(ctx, "after_commit,3,0s", func(int) {})
	d := i.start()
	if err := d.WaitForLog(ctx, logRepaired); err != nil {
		t.Fatal(err)
	}
	after := create("Observation", "afterwards", subject("after-the-repair"))
	reader := harness.NewReader(t, brokers, i.site.Topics.PatientData, i.site.Topics.PersonData, i.site.Topics.DeadLetters)
	if _, err := reader.Until(ctx, func(records []harness.Record) bool {
		return slices.ContainsFunc(records, func(r harness.Record) bool { return r.Key == "after-the-repair" })
	}); err != nil {
		t.Fatalf("%s has no event: %v", after.ID, err)
	}
	records, err := reader.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ids, types := map[string]bool{}, map[string][]string{}
	for _, r := range records {
		if ids[r.EventID()] {
			t.Errorf("the event %s is there twice", r.EventID())
		}
		ids[r.EventID()] = true
		var value struct{ ChangedResourceTypes []string }
		if err := json.Unmarshal(r.Value, &value); err != nil {
			t.Fatal(err)
		}
		types[r.Key] = append(types[r.Key], value.ChangedResourceTypes...)
	}
	patients["the-new-one"], patients[person.UUID] = "Observation", "Person"
	for patient, typ := range patients {
		if !slices.Contains(types[patient], typ) {
			t.Errorf("no event says that %s of %s has changed: %v", typ, patient, types[patient])
		}
	}
	if !slices.Contains(types[person.UUID], "Observation") {
		t.Error("the person has no event of its patient's resource")
	}
	stop(d)
}
