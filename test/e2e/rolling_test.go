package e2e_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// refusedLog is what a replica logs that the others do not share their streams with.
const refusedLog = "the replicas run another configuration of the streams"

// In a rolling update that changes the streams, or what the events are, the new
// replicas stand by, ready, and say why, until the last of the old ones has ended.
// Every event is there once.
func TestRollingUpdate(t *testing.T) {
	for _, test := range []struct {
		name string
		// before and after are the settings that the update changes.
		before, after []string
		differs       []string
		kill          bool
	}{
		{
			name:   "slices",
			before: []string{"FHIR_CDC_STREAMS", ""}, after: []string{"FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent], slices: 2}]"},
			differs: []string{"streams"},
		},
		{
			name:   "resource types of a stream",
			before: []string{"KAFKA_ENABLED_RESOURCES", "Consent"}, after: []string{"KAFKA_ENABLED_RESOURCES", "Consent,Person"},
			differs: []string{"streams"}, kill: true,
		},
		{
			name:   "what an event holds",
			before: []string{"FHIR_CDC_FACTS_REQUEST_ID", "false"}, after: []string{"FHIR_CDC_FACTS_REQUEST_ID", "true"},
			differs: []string{"events"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s").with(test.before...)
			reader := i.reader()
			var ids []string
			published := func(what string) { ids = i.publishes(reader, ids, what) }
			old := []*replica{i.replica("old-0"), i.replica("old-1")}
			i.eventually("an old replica runs the stream", func() bool { return i.states(old) == "running standing_by" })
			published("before")

			i.with(test.after...)
			next := []*replica{i.replica("new-0")}
			i.refusedReplica(next[0], test.differs, "old-0", "old-1")
			published("new-0 stands by")
			i.stop(old[0].Daemon)
			next = append(next, i.replica("new-1"))
			i.refusedReplica(next[1], test.differs, "old-1")
			i.eventually("new-0 sees that old-0 is gone", func() bool {
				_, text := i.get(next[0], "readyz")
				return !strings.Contains(text, "old-0") && strings.Contains(text, "(different: ")
			})
			published("old-1 is the last")
			for _, r := range next {
				if logs := r.Logs(); strings.Contains(logs, harness.LogResumes) || strings.Contains(logs, harness.LogBegins) {
					t.Errorf("%s has taken a stream although old-1 runs", r.name)
				}
				if n := strings.Count(r.Logs(), refusedLog); n > 2 {
					t.Errorf("%s says %d times that it is refused, want once for each change", r.name, n)
				}
			}

			if test.kill {
				i.check(old[1].Kill())
			} else {
				i.stop(old[1].Daemon)
			}
			published("the old ones are gone")
			for _, r := range next {
				i.eventually(r.name+" shares the streams", func() bool {
					_, text := i.get(r, "metrics")
					return strings.Contains(text, "\nfhir_cdc_replica_refused 0\n")
				})
				logHas(t, r.Daemon, "the replicas with the other configuration are gone")
			}
			if slices.Contains(test.after, "Consent,Person") {
				person, err := i.fhir.CreatePerson(i.ctx, "now watched")
				i.check(err)
				ids = append(ids, changeID(person))
			}
			i.stop(next[0].Daemon)
			published("new-1 is left")
			i.stop(next[1].Daemon)
			i.exactly(reader, ids...)
		})
	}
}

// refusedReplica asserts that a replica stands by because the members run another
// configuration, and that it is ready and says so everywhere.
func (i *installation) refusedReplica(r *replica, differs []string, members ...string) {
	i.t.Helper()
	i.check(r.WaitForLog(i.ctx, refusedLog))
	i.eventually(r.name+" names the replicas that run", func() bool {
		code, text := i.get(r, "readyz")
		if code != http.StatusOK {
			i.t.Errorf("%s is not ready: %d %s", r.name, code, text)
		}
		run := " run"
		if len(members) == 1 {
			run = " runs"
		}
		return strings.HasPrefix(text, "ok, standing by: "+strings.Join(members, ", ")+run+" another configuration (different: "+strings.Join(differs, ", ")+")")
	})
	_, text := i.get(r, "status")
	var status struct{ Refused string }
	i.check(json.Unmarshal([]byte(text), &status))
	if !strings.Contains(status.Refused, "; taking over when ") {
		i.t.Errorf("/status of %s says %q", r.name, status.Refused)
	}
	if _, text := i.get(r, "metrics"); !strings.Contains(text, "\nfhir_cdc_replica_refused 1\n") {
		i.t.Errorf("/metrics of %s does not say that it is refused", r.name)
	}
	if logs := r.Logs(); strings.Contains(logs, "INCONSISTENT_GROUP_PROTOCOL") {
		i.t.Errorf("%s logs the broker's refusals", r.name)
	}
}
