package faults_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// TestRepairPersonLinks loses the history of a stream of person link events alone: the repair makes
// each once and in the order of its person, also of a person that is gone, of versions whose
// history comes while it repairs, and of a version before that is older than the gap.
func TestRepairPersonLinks(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	brokers := sharedBrokers(t)
	i := install(t, exactlyOnce(), harness.NewSite(t, m.URI, brokers).WithPersonLink())
	for _, variable := range []string{"ENABLE_EVENTS_KAFKA", "ENABLE_BULK_EXPORT_KAFKA_EVENTS", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS"} {
		i.env[variable] = "0"
	}
	i.env["FHIR_CDC_FACTS_WAIT"] = "200ms"
	i.env["FHIR_CDC_REPAIR_CLOCK_TOLERANCE"] = "1s"
	client := connect(t, m.URI)
	server := fhirserver.New(client, fhirserver.Options{Databases: i.site.Databases})
	slow := fhirserver.New(client, fhirserver.Options{Databases: i.site.Databases, HistoryDelay: 3 * time.Second})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][]string{}
	var ids []string
	linked := func(r fhirserver.Resource, err error) fhirserver.Resource {
		t.Helper()
		check(err)
		id := harness.PersonLinkID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
		ids, want[r.UUID] = append(ids, id), append(want[r.UUID], id)
		return r
	}
	create := func(id string) fhirserver.Resource {
		t.Helper()
		r, err := server.CreatePerson(ctx, id)
		check(err)
		return r
	}
	d := i.startReady(ctx)
	stays, goes, late := create("per-1"), create("per-2"), create("per-3")
	stays = linked(server.Link(ctx, stays, "pat-2"))
	reader := harness.NewReader(t, brokers, i.site.Topics.PersonLink, i.site.Topics.DeadLetters)
	until := func() []harness.Record {
		t.Helper()
		records, err := reader.UntilIDs(ctx, ids...)
		check(err)
		return records
	}
	until()
	code, err := d.Stop(ctx)
	if err != nil || code != 0 {
		t.Fatalf("stopped with exit code %d, error %v", code, err)
	}
	// Longer than the tolerance: the versions before are older than what the repair looks at.
	check(pass(ctx, 3*time.Second))
	for _, patient := range []string{"pat-3", "pat-4"} {
		stays = linked(server.Link(ctx, stays, patient))
		goes = linked(server.Link(ctx, goes, patient))
	}
	stays = linked(server.Unlink(ctx, stays, "pat-3"))
	check(server.Delete(ctx, goes))
	late = linked(slow.Link(ctx, late, "pat-5")) // overwritten before its history comes
	linked(slow.Link(ctx, late, "pat-6"))
	// Two answers: the stream reads no usage events back.
	check((gone{code: 286, reaches: true}).answer(ctx, client.Database("admin"), "fhir-cdc/"+i.site.Name))
	d = i.start()
	check(d.WaitForLog(ctx, logRepaired))
	check(slow.Flush())
	stays, err = server.Replace(ctx, stays, fhirserver.Set("active", true))
	check(err)
	linked(server.Unlink(ctx, stays, "pat-4"))
	until()
	code, err = d.Stop(ctx)
	if err != nil || code != 0 {
		t.Fatalf("stopped with exit code %d, error %v", code, err)
	}
	records, err := reader.End(ctx)
	check(err)
	got := map[string][]string{}
	for _, r := range records {
		got[r.Key] = append(got[r.Key], r.EventID())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events by person (-want +got):\n%s", diff)
	}
	if !slices.Contains(want[goes.UUID], ids[2]) {
		t.Error("no link of the person that is gone: this run proves too little")
	}
}
