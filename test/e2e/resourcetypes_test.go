package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// A resource type that cannot be is refused with the one that was probably meant,
// instead of a command that finds nothing and ends well. One that only the server and
// the configuration know is taken, with a warning.
func TestResourceTypes(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("KAFKA_ENABLED_RESOURCES", "Consent,Widget", "FHIR_CDC_FACTS_REQUEST_ID", "false")
	d := i.start()
	const warning = `names \"Widget\", a resource type that FHIR does not have`
	if warned := strings.Join(harness.Warnings(d), ""); !strings.Contains(warned, warning) {
		t.Errorf("the daemon does not warn of it:\n%s", warned)
	}
	reader := i.reader()
	consent := i.consent("c-1")
	widget, err := i.fhir.Create(i.ctx, "Widget", "w-1", fhirserver.Owner, nil)
	i.check(err)
	i.until(reader, changeID(consent), changeID(widget))

	since := consent.LastUpdated.UTC().Add(-time.Second).Format(time.RFC3339)
	for command, flags := range map[string][]string{"backfill": nil, "replay": {"--from-time", since, "--dry-run"}} {
		with := func(resources string) []string {
			return append([]string{command, "--resources", resources}, flags...)
		}
		i.refused([]string{`"Consnet"`, "FHIR has no such resource type", "did you mean Consent?"}, with("Consent,Consnet")...)
		i.refused([]string{`"patient"`, "did you mean Patient?"}, with("patient")...)
		i.refused([]string{`"Gadget"`, "events.change.resources"}, with("Gadget")...)
		i.refused([]string{"AuditEvent", "never makes change events"}, with("AuditEvent")...)
	}
	// Types that FHIR has, and that make no events of the oplog here.
	i.refused([]string{"--resources Patient", "makes no events", "Consent, Widget"}, "replay", "--resources", "Patient", "--from-time", since, "--dry-run")
	i.succeeds("replay", "--resources", "ExportStatus", "--from-time", since, "--dry-run")
	i.of(t).with("ENABLE_BULK_EXPORT_KAFKA_EVENTS", "0").refused([]string{"--resources ExportStatus", "makes no events"}, "replay", "--resources", "ExportStatus", "--from-time", since, "--dry-run")

	if done := i.backfill("--resources", "Widget", "--dry-run"); done.Events != 1 || len(done.First) != 1 || done.First[0].ID != changeID(widget) {
		t.Errorf("a backfill of the server's own type: %+v", done)
	}
	if done := i.backfill("--resources", "Patient", "--dry-run"); done.Events != 0 {
		t.Errorf("a backfill of what is not there: %+v", done)
	}
	i.exactly(reader, changeID(consent), changeID(widget))
}
