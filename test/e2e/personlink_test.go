package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// linkEvent is what a person link event tells.
type linkEvent struct{ Type, Key, PersonID, PatientID string }

// linkEvents are the person link events in their order.
func linkEvents(t *testing.T, records []harness.Record) (all []linkEvent) {
	t.Helper()
	for _, r := range records {
		e := linkEvent{Type: strings.TrimPrefix(r.Headers.Get("ce_type"), "PatientPersonManually"), Key: r.Key}
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// Patients that are linked and unlinked through /admin have their events, once and in the order of
// each person, also of a history that comes after a restart; all other changes of links have
// none. A version whose history never comes is a dead letter, if a link may have been changed by
// hand. Replay, backfill and verification know the same.
func TestPersonLink(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.site = i.site.WithPersonLink()
	i.env = harness.With(i.site.Env(), "FHIR_CDC_FACTS_WAIT", slowMachine, "FHIR_CDC_REPLICAS", "none",
		"ENABLE_EVENTS_KAFKA", "0", "ENABLE_BULK_EXPORT_KAFKA_EVENTS", "0", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS", "0")
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	reader := harness.NewReader(t, i.site.Brokers, i.site.Topics.PersonLink, i.site.Topics.DeadLetters)
	var ids []string
	var want []linkEvent
	is := func(typ, patient string) func(fhirserver.Resource, error) fhirserver.Resource {
		return func(r fhirserver.Resource, err error) fhirserver.Resource {
			t.Helper()
			i.check(err)
			ids, want = append(ids, linkID(r)), append(want, linkEvent{typ, r.UUID, r.UUID, patient})
			return r
		}
	}
	none := func(r fhirserver.Resource, err error) fhirserver.Resource {
		t.Helper()
		i.check(err)
		return r
	}
	person := none(i.fhir.CreatePerson(i.ctx, "per-1")) // by PUT, with a link
	person = is("Linked", "pat-2")(i.fhir.Link(i.ctx, person, "pat-2"))
	person = none(i.fhir.Replace(i.ctx, person, fhirserver.Set("active", true)))
	person = none(i.fhir.Replace(i.ctx, person, fhirserver.Set("link", linksTo("pat-1", "pat-2", "pat-3"))))
	byUUID := fhirserver.UUID("pat-2", fhirserver.Owner)
	person = is("Linked", byUUID)(i.fhir.Link(i.ctx, person, byUUID))
	person = is("Unlinked", byUUID)(i.fhir.Unlink(i.ctx, person, byUUID)) // both spellings
	person = is("Unlinked", "pat-1")(i.fhir.Unlink(i.ctx, person, "pat-1"))
	person = none(i.fhir.Unlink(i.ctx, person, "pat-none"))
	is("Linked", fhirserver.UUID("pat-4", fhirserver.Owner))(i.fhir.CreateLinked(i.ctx, "per-2", "pat-4"))
	i.until(reader, ids...)

	// The history of a link comes after the daemon was killed and started again.
	slow := fhirserver.New(shared.client, fhirserver.Options{Databases: i.site.Databases, HistoryDelay: 3 * time.Second})
	person = is("Linked", "pat-5")(slow.Link(i.ctx, person, "pat-5"))
	i.check(d.Kill())
	d = i.start()
	other := is("Linked", fhirserver.UUID("pat-6", fhirserver.Owner))(i.fhir.CreateLinked(i.ctx, "per-3", "pat-6"))
	i.check(slow.Flush())
	i.until(reader, ids...)
	i.stop(d)

	// Of a person that was deleted and created again the numbers come twice.
	i.check(i.fhir.Delete(i.ctx, other))
	other = none(i.fhir.Create(i.ctx, "Person", "per-3", fhirserver.Owner, nil))
	other = is("Linked", "pat-7")(i.fhir.Link(i.ctx, other, "pat-7"))

	// What never has a history.
	forgetful := fhirserver.New(shared.client, fhirserver.Options{Databases: i.site.Databases, HistoryDelay: fhirserver.NoHistory})
	none(forgetful.Replace(i.ctx, person, fhirserver.Set("active", false))) // the links stay
	lost := none(forgetful.Link(i.ctx, other, "pat-8"))
	none(forgetful.Create(i.ctx, "Person", "per-4", fhirserver.Owner, nil)) // no link
	i.with("FHIR_CDC_FACTS_WAIT", "")
	d = i.start()
	is("Linked", "pat-9")(i.fhir.Link(i.ctx, none(i.fhir.CreatePerson(i.ctx, "per-5")), "pat-9"))
	i.until(reader, append(slices.Clone(ids), "")...)
	all, err := reader.End(i.ctx)
	i.check(err)
	live := harness.Of(all, i.site.Topics.PersonLink)
	if diff := cmp.Diff(count(ids), count(harness.EventIDs(live))); diff != "" {
		t.Errorf("event ids (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(byPerson(want), byPerson(linkEvents(t, live))); diff != "" {
		t.Errorf("events by person (-want +got):\n%s", diff)
	}
	letters := i.deadLetters(all)
	if len(letters) != 1 || letters[0].Kind != "person_link" || letters[0].Reason != "the version's history is missing" {
		t.Errorf("the dead letters are %+v, want one of the version without history", letters)
	}

	i.succeeds("replay", "--from-time", since, "--topic-prefix", "again.")
	again, err := harness.NewReader(t, i.site.Brokers, prefixed("again.", i.site.Topics.PersonLink, i.site.Topics.DeadLetters)...).End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(byTopicAndKey(all, ""), byTopicAndKey(again, "again.")); diff != "" {
		t.Errorf("the replay differs from what was live (-live +replay):\n%s", diff)
	}
	i.awaitPosition(since, len(ids))
	if v := i.verify("--since", since); !v.Clean {
		t.Errorf("verify: %+v", v)
	}
	byID := contents(t, live, "")
	if done := i.backfill("--from", "history", "--topic-prefix", "history."); done.Events != len(ids) || done.DeadLetters != 0 {
		t.Errorf("a backfill from the history has done %+v, want %d events", done, len(ids))
	}
	records, err := harness.NewReader(t, i.site.Brokers, "history."+i.site.Topics.PersonLink).End(i.ctx)
	i.check(err)
	for id, c := range contents(t, records, "history.") {
		if diff := cmp.Diff(byID[id], c); diff != "" {
			t.Errorf("from the history (-live +backfill):\n%s", diff)
		}
	}

	// The history turns up: the dead letter has its event, once.
	i.check(i.fhir.WriteHistory(i.ctx, lost))
	i.succeeds("dead-letters", "retry", "--all")
	ids = append(ids, linkID(lost))
	i.until(reader, ids...)
	i.stop(d)
}

func byPerson(events []linkEvent) map[string][]linkEvent {
	all := map[string][]linkEvent{}
	for _, e := range events {
		all[e.Key] = append(all[e.Key], e)
	}
	return all
}

// linksTo are links as a client writes them.
func linksTo(patients ...string) bson.A {
	var links bson.A
	for _, p := range patients {
		links = append(links, bson.D{{Key: "target", Value: bson.D{
			{Key: "reference", Value: "Patient/" + p}, {Key: "_uuid", Value: "Patient/" + fhirserver.UUID(p, fhirserver.Owner)},
		}}})
	}
	return links
}
