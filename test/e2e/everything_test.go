package e2e_test

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// One request leaves an AuditEvent for each type of resource and an access log; it
// has one event, also if the daemon dies between any two of them.
func TestEverythingOnceAcrossRestart(t *testing.T) {
	i := install(t, fhirserver.Options{})
	client, err := i.fhir.CreatePerson(i.ctx, "per-1")
	i.check(err)
	master, err := i.fhir.CreateMasterPerson(i.ctx, "master-1", client)
	i.check(err)
	request := i.fhir.NewRequest(client.UUID)
	id := harness.AccessedEverythingID(request.SystemID)

	d := i.start()
	reader := i.reader()
	i.check(i.fhir.WriteAuditEvent(i.ctx, request))
	i.until(reader, id)
	for n := range 4 {
		// Without and with a commit behind the last trace, orderly and not.
		if n%2 == 0 {
			i.check(d.Kill())
		} else {
			i.stop(d)
		}
		d = i.start()
		i.check(i.fhir.WriteAuditEvent(i.ctx, request))
	}
	i.check(d.Kill())
	i.check(i.fhir.WriteAccessLog(i.ctx, request))
	i.start()

	other, err := i.fhir.Everything(i.ctx, client.UUID, 0, true)
	i.check(err)
	records := i.exactly(reader, id, harness.AccessedEverythingID(other.SystemID))
	for _, r := range records {
		want := `{"managingOrganization":"org-1","bwellFhirPersonId":"` + master.UUID + `","clientFhirPersonId":"` + client.UUID + `"}`
		if string(r.Value) != want {
			t.Errorf("got value %s, want %s", r.Value, want)
		}
	}
}

// What is not known of a person is left out, and known as soon as it is written.
func TestEverythingOfPersonThatIsLinkedLater(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.start()
	reader := i.reader()
	client := fhirserver.UUID("per-1", fhirserver.Owner)
	unknown, err := i.fhir.Everything(i.ctx, client, 1, false)
	i.check(err)
	i.until(reader, harness.AccessedEverythingID(unknown.SystemID))

	person, err := i.fhir.CreatePerson(i.ctx, "per-1")
	i.check(err)
	half, err := i.fhir.Everything(i.ctx, client, 1, false)
	i.check(err)
	i.until(reader, harness.AccessedEverythingID(half.SystemID))

	_, err = i.fhir.CreateMasterPerson(i.ctx, "master-1", person)
	i.check(err)
	full, err := i.fhir.Everything(i.ctx, client, 1, false)
	i.check(err)
	i.until(reader, harness.AccessedEverythingID(full.SystemID))

	// The person moves to another organization: what is remembered must not stay.
	_, err = i.fhir.Replace(i.ctx, person, without("managingOrganization"))
	i.check(err)
	moved, err := i.fhir.Everything(i.ctx, client, 1, false)
	i.check(err)
	records := i.until(reader, harness.AccessedEverythingID(moved.SystemID))

	values := map[string]string{}
	for _, r := range records {
		values[r.EventID()] = string(r.Value)
	}
	master := `"bwellFhirPersonId":"` + fhirserver.UUID("master-1", fhirserver.BwellOwner) + `"`
	own := `"clientFhirPersonId":"` + client + `"`
	for request, want := range map[string]string{
		unknown.SystemID: "{" + own + "}",
		half.SystemID:    `{"managingOrganization":"org-1",` + own + "}",
		full.SystemID:    `{"managingOrganization":"org-1",` + master + "," + own + "}",
		moved.SystemID:   "{" + master + "," + own + "}",
	} {
		if got := values[harness.AccessedEverythingID(request)]; got != want {
			t.Errorf("got value %s, want %s", got, want)
		}
	}
}

// The connection strings of one cluster may differ in their options. It has one
// stream all the same, so a request that is told of in both places has one event.
func TestEverythingOnceThroughTwoConnectionStrings(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.with("ACCESS_LOGS_CLUSTER_MONGO_URL", i.env["MONGO_URL"]+"&appName=access")
	i.start()
	client, err := i.fhir.CreatePerson(i.ctx, "per-1")
	i.check(err)
	request, err := i.fhir.Everything(i.ctx, client.UUID, 3, true)
	i.check(err)
	after := i.consent("after")
	i.exactly(i.reader(), harness.AccessedEverythingID(request.SystemID), changeID(after))
}

// What the server's router takes to $everything has its event, however it is spelt, and
// nothing else has. An AuditEvent that a client has stored is no proof of a request.
func TestEverythingIsTheServersOwn(t *testing.T) {
	i := install(t, fhirserver.Options{})
	d := i.start()
	client, err := i.fhir.CreatePerson(i.ctx, "per-1")
	i.check(err)
	var ids []string
	told := func(url string) string {
		byEvent, byLog := i.fhir.NewRequest(client.UUID), i.fhir.NewRequest(client.UUID)
		byEvent.URL, byLog.URL = url, url
		i.check(i.fhir.WriteAuditEvent(i.ctx, byEvent))
		i.check(i.fhir.WriteAccessLog(i.ctx, byLog))
		return byEvent.SystemID + " " + byLog.SystemID
	}
	for _, url := range []string{
		"/4_0_0/Patient/1/$everything/", "/4_0_0/patient/1/$everything", "/4_0_0/Person/1/$EVERYTHING/?_type=Consent", "/4_0_0/PATIENT/$everything?id=1",
		"/4_0_0/Patient/a%2Fb/$everything",
	} {
		for _, request := range strings.Fields(told(url)) {
			ids = append(ids, harness.AccessedEverythingID(request))
		}
	}
	for _, url := range []string{
		"/4_0_0/Patient/1/%24everything", "/4_0_0/Patient/1/$everything//", "/4_0_0/Practitioner/Patient/$everything", "/4_0_0/Patient/1?x=/$everything",
	} {
		told(url)
	}
	for _, change := range []func(bson.D) bson.D{
		setIn("meta", "source", "http://acme.test/src"), // as the server demands it
		setIn("meta", "security", bson.A{bson.D{{Key: "system", Value: "https://www.icanbwell.com/access"}, {Key: "code", Value: "acme"}}}),
		setIn("meta", "security", nil),
		setIn("", "recorded", time.Now().Add(-time.Second)),
		setIn("", "recorded", nil),
		setIn("meta", "lastUpdated", nil),
	} {
		event := change(i.fhir.AuditEvent(i.fhir.NewRequest(client.UUID)))
		_, err := shared.client.Database(i.site.Databases.AuditEvents).Collection("AuditEvent_4_0_0").InsertOne(i.ctx, event)
		i.check(err)
	}
	after := i.fhir.NewRequest(client.UUID)
	i.check(i.fhir.WriteAuditEvent(i.ctx, after))
	ids = append(ids, harness.AccessedEverythingID(after.SystemID))
	i.exactly(harness.NewReader(t, i.site.Brokers, i.site.Topics.AccessedEverything, i.site.Topics.DeadLetters), ids...)
	i.stop(d)
	if done := i.backfill("--kinds", "accessed_everything", "--dry-run"); done.Events != len(ids) || done.DeadLetters != 0 {
		t.Errorf("a backfill finds %d events and %d dead letters, want %d and none", done.Events, done.DeadLetters, len(ids))
	}
}

// setIn sets a field of a document, or of one of its documents, or takes it away.
func setIn(in, field string, value any) func(bson.D) bson.D {
	set := func(document bson.D) (changed bson.D) {
		for _, e := range document {
			if e.Key != field {
				changed = append(changed, e)
			}
		}
		if value != nil {
			changed = append(changed, bson.E{Key: field, Value: value})
		}
		return changed
	}
	return func(document bson.D) bson.D {
		if in == "" {
			return set(document)
		}
		for i, e := range document {
			if e.Key == in {
				document[i].Value = set(e.Value.(bson.D))
			}
		}
		return document
	}
}
