package installation

import (
	"testing"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// A stream remembers persons only if its own changes tell of all of them.
func TestPersonsAreRememberedWhereTheirChangesAreRead(t *testing.T) {
	for _, test := range []struct {
		name, streams string
		more          []string
		// want says of each stream whether it does.
		want map[string]bool
	}{
		{"one stream", "", nil, map[string]bool{"main": true}},
		{"the databases of requests are a group", "[{name: usage, databases: [audit, access]}]", nil, map[string]bool{"main": true, "usage": true}},
		{"access logs on another cluster", "", []string{"ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://other:27017"}, map[string]bool{"main": true, "access-logs": false}},
		{"AuditEvents on another cluster", "", []string{"AUDIT_EVENT_MONGO_URL=mongodb://other:27017"}, map[string]bool{"main": true, "audit-events": false}},
		{"they are a group on another cluster", "[{name: logs, databases: [access]}]", []string{"ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://other:27017"}, map[string]bool{"main": true, "logs": false}},
		{"no cache", "", []string{"FHIR_CDC_FACTS_PERSON_CACHE=0"}, map[string]bool{"main": true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := config.Load(config.LoadOptions{Environ: append([]string{
				"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092", "AUDIT_EVENT_MONGO_DB_NAME=audit", "ACCESS_LOGS_MONGO_DB_NAME=access",
				"ENABLE_EVENTS_KAFKA=1", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS=1", "KAFKA_ENABLED_RESOURCES=Consent,Person",
				"FHIR_CDC_STREAMS=" + test.streams,
			}, test.more...)})
			if err != nil {
				t.Fatal(err)
			}
			o, err := Open(c, nil, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if o.Clients.Disconnect(t.Context(), &err); err != nil {
					t.Error(err)
				}
			}()
			facts, err := o.NewStreamFacts()
			if err != nil {
				t.Fatal(err)
			}
			if facts.unremembered().Persons == facts.Persons {
				t.Error("a repair remembers persons, whose changes it is not told of")
			}
			plan := o.Plan
			if len(plan) != len(test.want) {
				t.Errorf("%d streams", len(plan))
			}
			for _, p := range plan {
				if got, want := facts.of(p).Persons == facts.Persons, test.want[p.Name]; got != want {
					t.Errorf("stream %s remembers persons: %v, want %v", p.Name, got, want)
				}
			}
		})
	}
}
