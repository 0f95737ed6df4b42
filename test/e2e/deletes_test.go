package e2e_test

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// Deletions are events where they are asked for, also of documents so large that a
// change with the document as it was and as it is would be three times what a server can
// send. Where MongoDB keeps no document as it was, the deletion is a dead letter.
func TestDeletes(t *testing.T) {
	i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).with("FHIR_CDC_EVENTS_CHANGE_DELETES", "true", "FHIR_CDC_FACTS_REQUEST_ID", "false")
	images := options.CreateCollection().SetChangeStreamPreAndPostImages(bson.D{{Key: "enabled", Value: true}})
	main := shared.client.Database(i.site.Databases.Main)
	i.check(main.CreateCollection(i.ctx, "Consent_4_0_0", images))
	d := i.start()
	reader := i.reader()
	large := func(letter string) func(bson.D) bson.D {
		return fhirserver.Set("text", bson.D{{Key: "div", Value: strings.Repeat(letter, 15_900_000)}})
	}
	created, err := i.fhir.Create(i.ctx, "Consent", "c-1", fhirserver.Owner, large("x")(i.fhir.Consent()))
	i.check(err)
	updated, err := i.fhir.Update(i.ctx, created, large("y"))
	i.check(err)
	replaced, err := i.fhir.Replace(i.ctx, updated, large("z"))
	i.check(err)
	i.check(i.fhir.Delete(i.ctx, replaced))
	ids := append(changeIDs(created, updated, replaced),
		harness.DeleteID(replaced.Namespace, replaced.UUID, replaced.VersionID, replaced.LastUpdated))
	job, err := i.fhir.CreateExportStatus(i.ctx, "job-1")
	i.check(err)
	i.check(i.fhir.Delete(i.ctx, job))
	last := i.consent("c-2")

	i.until(reader, append(ids, changeID(job), exportID(job), changeID(last))...)
	i.stop(d)
	records, err := reader.End(i.ctx)
	i.check(err)
	var actions []string
	for _, r := range harness.Of(records, i.site.Topics.Change) {
		if r.Key == created.ID {
			event, err := r.JSON()
			i.check(err)
			actions = append(actions, event["action"].(string))
		}
	}
	if got := strings.Join(actions, ""); got != "CUUD" {
		t.Errorf("the actions are %s, want CUUD", got)
	}
	letters := i.deadLetters(records)
	if len(letters) != 1 || letters[0].Operation != "delete" || !strings.Contains(letters[0].Reason, "changeStreamPreAndPostImages") {
		t.Errorf("the dead letters are %+v, want the deletion of the job", letters)
	}
	if want := len(ids) + 3 + len(letters); len(records) != want {
		t.Errorf("%d records, want %d", len(records), want)
	}
}
