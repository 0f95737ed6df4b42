package e2e_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

// A stop in order and a new start lose nothing and repeat nothing, wherever the
// position is kept.
func TestResumeAfterStop(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		env  []string
	}{
		{"exactly_once", nil},
		{"at_least_once/kafka", []string{"FHIR_CDC_DELIVERY", "at_least_once"}},
		{"at_least_once/mongodb", []string{"FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_STORE", "mongodb"}},
		{"at_least_once/file", []string{"FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_STORE", "file"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with(test.env...).with(
				"FHIR_CDC_CHECKPOINT_FILE_PATH", filepath.Join(t.TempDir(), "positions.json"),
			)
			i.with("FHIR_CDC_CHECKPOINT_MONGODB_DATABASE", i.site.Databases.Main)
			d := i.start()
			before := i.consent("before")
			reader := i.reader()
			i.until(reader, changeID(before))
			i.stop(d)

			between := i.consent("between")
			changed, err := i.fhir.ReplaceConsent(i.ctx, before)
			i.check(err)

			d = i.start()
			after := i.consent("after")
			i.exactly(reader, changeIDs(before, between, changed, after)...)
			i.stop(d)
			i.exactly(reader, changeIDs(before, between, changed, after)...)
		})
	}
}

// A stream without a position begins where start says.
func TestStart(t *testing.T) {
	i := install(t, fhirserver.Options{})
	first := i.consent("first")
	// The stream can begin at whole seconds of the oplog's clock.
	begin := first.LastUpdated.Truncate(time.Second).Add(2 * time.Second)
	i.waitUntil(begin)
	second := i.consent("second")

	i.with("FHIR_CDC_START", begin.Format(time.RFC3339))
	i.stop(i.start())
	d := i.start() // what start says no longer matters: there is a position
	third := i.consent("third")
	reader := i.reader()
	i.exactly(reader, changeIDs(second, third)...)
	i.stop(d)

	i.with("FHIR_CDC_START", "oldest", "FHIR_CDC_NAME", i.site.Name+"-oldest")
	i.start()
	// The same changes give the same ids again, for this is another installation.
	i.until(reader, changeID(first))
	records, err := reader.Until(i.ctx, func(records []harness.Record) bool { return len(records) == 5 })
	i.check(err)
	if n := count(harness.EventIDs(records)); n[changeID(first)] != 1 || n[changeID(second)] != 2 || n[changeID(third)] != 2 {
		t.Errorf("got event ids %v", n)
	}
}

// waitUntil waits for a time of the clock that the databases have too.
func (i *installation) waitUntil(at time.Time) {
	i.t.Helper()
	i.check(wait.Sleep(i.ctx, time.Until(at)))
}
