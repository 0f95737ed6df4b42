package e2e_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// activity is what happens at a FHIR server between two changes of a test, and the
// events that it makes.
type activity struct {
	i *installation
	// name is part of the ids.
	name string
	// consents are the newest versions; each key's events are to be in order.
	consents []fhirserver.Resource
	ids      []string
}

// go on with some creates, changes, exports and requests.
func (a *activity) goOn(what string) {
	i := a.i
	i.t.Helper()
	for n := range 6 {
		a.consents = append(a.consents, i.consent(fmt.Sprintf("%s-%s-%d", a.name, what, n)))
		a.ids = append(a.ids, changeID(a.consents[len(a.consents)-1]))
	}
	for n := range a.consents {
		changed, err := i.fhir.ReplaceConsent(i.ctx, a.consents[n])
		i.check(err)
		a.consents[n] = changed
		a.ids = append(a.ids, changeID(changed))
	}
	job, err := i.fhir.CreateExportStatus(i.ctx, fhirserver.UUID(a.name+what, "job"))
	i.check(err)
	a.ids = append(a.ids, changeID(job), exportID(job))
	request, err := i.fhir.Everything(i.ctx, "e3b35308-0ad4-591b-b14f-0c3e15f45713", 2, true)
	i.check(err)
	a.ids = append(a.ids, harness.AccessedEverythingID(request.SystemID))
}

// inOrder asserts that the events of each Consent are in the order of its versions.
func (a *activity) inOrder(records []harness.Record) {
	a.i.t.Helper()
	keys := byKey(records)
	for _, r := range a.consents {
		var want []string
		for _, id := range a.ids {
			if slices.Contains(keys[r.ID], id) {
				want = append(want, id)
			}
		}
		if !slices.Equal(keys[r.ID], want) {
			a.i.t.Errorf("the events of %s are out of order", r.ID)
		}
	}
}

// The streams change from run to run, some after a stop and some after a kill, and
// every event is there once, each resource's in order.
func TestStreamsChangeBetweenRuns(t *testing.T) {
	for _, test := range []struct {
		name string
		env  []string
	}{
		{"exactly_once", nil},
		{"at_least_once/mongodb", []string{"FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_STORE", "mongodb"}},
		{"at_least_once/file", []string{"FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_STORE", "file"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with(test.env...).with(
				"FHIR_CDC_CHECKPOINT_FILE_PATH", filepath.Join(t.TempDir(), "positions.json"),
				"FHIR_CDC_SESSION_TIMEOUT", "6s",
			)
			i.with("FHIR_CDC_CHECKPOINT_MONGODB_DATABASE", i.site.Databases.Main+"-audit")
			a := &activity{i: i, name: "r"}
			reader := i.reader()
			usage := fmt.Sprintf("{name: usage, databases: [%s, %s]}", i.site.Databases.AuditEvents, i.site.Databases.AccessLogs)
			for n, streams := range []string{
				"",
				"[{name: consents, resources: [Consent]}]",
				"[{name: consents, resources: [Consent], slices: 3}, " + usage + "]",
				"[{name: all, resources: [Consent, ExportStatus], slices: 2}]",
				"[" + usage + "]",
				"",
			} {
				d := i.with("FHIR_CDC_STREAMS", streams).start()
				a.goOn(fmt.Sprintf("run%d", n))
				if n%2 == 1 && len(test.env) == 0 {
					// Wherever it is. What was not committed is not lost.
					i.check(d.Kill())
				} else {
					i.stop(d)
				}
				a.goOn(fmt.Sprintf("between%d", n))
			}
			d := i.start()
			a.inOrder(i.exactly(reader, a.ids...))
			i.stop(d)
			i.tellsOtherStreams()
		})
	}
}

// tellsOtherStreams asserts that commands with other streams than the daemon's say so.
func (i *installation) tellsOtherStreams() {
	i.t.Helper()
	const note = "the streams that run are main"
	if _, stderr, code := i.command("position", "list"); code != 0 || stderr != "" {
		i.t.Errorf("exit code %d, %s", code, stderr)
	}
	i.with("FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent]}]")
	if _, stderr, code := i.command("position", "list"); code != 0 || !strings.Contains(stderr, note) {
		i.t.Errorf("exit code %d, %s", code, stderr)
	}
	if stdout, stderr, _ := i.command("verify", "--since", "1m"); !strings.Contains(stdout, note) {
		i.t.Errorf("verify says %s, %s", stdout, stderr)
	}
}

// Another resource type is enabled between two runs, and taken out again: what was
// written of it in between, and what was not, is there once.
func TestResourcesChangeBetweenRuns(t *testing.T) {
	for _, streams := range []string{"", "[{name: consents, resources: [Consent]}]"} {
		t.Run("streams "+streams, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with("FHIR_CDC_STREAMS", streams, "KAFKA_ENABLED_RESOURCES", "Consent")
			var want []string
			person := func(id string, watched bool) {
				r, err := i.fhir.CreatePerson(i.ctx, id)
				i.check(err)
				if watched {
					want = append(want, changeID(r))
				}
			}
			consent := func(id string) { want = append(want, changeID(i.consent(id))) }
			reader := i.reader()
			d := i.start()
			person("not yet", false)
			consent("first")
			// Behind the person in the stream that would read it.
			job, err := i.fhir.CreateExportStatus(i.ctx, "first")
			i.check(err)
			want = append(want, exportID(job))
			i.until(reader, want...)
			i.stop(d)

			// The stream goes on where it stopped, with the new type from there.
			consent("between")
			person("between", true)
			d = i.with("KAFKA_ENABLED_RESOURCES", "Consent,Person").start()
			consent("second")
			person("second", true)
			i.until(reader, want...)
			i.stop(d)

			person("no longer", false)
			consent("last")
			d = i.with("KAFKA_ENABLED_RESOURCES", "Consent").start()
			consent("very last")
			i.exactly(reader, want...)
			i.stop(d)
			i.exactly(reader, want...)
		})
	}
}
