package config

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the server takes in silence and nobody can have meant is said, and no secret with
// it.
func TestWarnings(t *testing.T) {
	const unused = "is set but not used, since kafka.sasl.enabled is false: set KAFKA_SASL=1 to log in"
	const unknown = "a resource type that FHIR does not have: without collections of that name there will be no event of it"
	const usage = "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS=1"
	const noAuditEvents = "says that the FHIR server does not write AuditEvents to MongoDB: " +
		"usage events come only of the requests in access logs, which GETs without a body are not"
	base := []string{"MONGO_URL=mongodb://localhost", "KAFKA_URLS=localhost:9092", "ENABLE_EVENTS_KAFKA=1"}
	for name, c := range map[string]struct {
		environ []string
		want    []string
	}{
		"nothing":         {nil, nil},
		"plainly off":     {[]string{"KAFKA_SSL=No", "KAFKA_SASL=0", "ENABLE_BULK_EXPORT_KAFKA_EVENTS=off"}, nil},
		"a word":          {[]string{"KAFKA_SSL=maybe"}, []string{`kafka.tls.enabled (KAFKA_SSL): "maybe" counts as off, as the FHIR server reads it; write 1 or true for on, 0 or false for off`}},
		"a stronger word": {[]string{"KAFKA_SSL=maybe", "FHIR_CDC_KAFKA_TLS_ENABLED=true"}, nil},
		"a login":         {[]string{"KAFKA_SASL_USERNAME=fhir", "KAFKA_SASL_PASSWORD=s3cr3t"}, []string{"kafka.sasl.username (KAFKA_SASL_USERNAME): " + unused, "kafka.sasl.password (KAFKA_SASL_PASSWORD): " + unused}},
		"a login in use":  {[]string{"KAFKA_SASL=1", "KAFKA_SASL_MECHANISM=plain", "KAFKA_SASL_USERNAME=fhir", "KAFKA_SASL_PASSWORD=s3cr3t"}, nil},
		"a type": {[]string{"KAFKA_ENABLED_RESOURCES=Consnet,Person,Xyzzyplugh"}, []string{
			"events.change.resources (KAFKA_ENABLED_RESOURCES): names \"Consnet\", " + unknown + "; did you mean Consent?",
			"events.change.resources (KAFKA_ENABLED_RESOURCES): names \"Xyzzyplugh\", " + unknown,
		}},
		"a type of another kind": {[]string{"SSE_ENABLED_RESOURCES=Patint", "ENABLE_SSE_KAFKA_EVENTS=1"}, []string{
			"events.resource_change.resources (SSE_ENABLED_RESOURCES): names \"Patint\", " + unknown + "; did you mean Patient?",
		}},
		"no change events": {[]string{"KAFKA_ENABLED_RESOURCES=Consnet", "ENABLE_EVENTS_KAFKA=0", "ENABLE_BULK_EXPORT_KAFKA_EVENTS=1"}, nil},
		"AuditEvents to Kafka": {[]string{usage, "ENABLE_EVENTS_KAFKA_V2=1", "ENABLE_AUDIT_EVENT_CLICKPIPE=true"}, []string{
			"events.accessed_everything.enabled (ENABLE_AUDIT_EVENT_CLICKPIPE): " + noAuditEvents,
		}},
		"AuditEvents to a Kafka that is off": {[]string{usage, "ENABLE_AUDIT_EVENT_CLICKPIPE=1"}, nil},
		"AuditEvents to ClickHouse": {[]string{usage, "CLICKHOUSE_ONLY_RESOURCES=Observation, AuditEvent", "ENABLE_ACCESS_LOGS_MONGODB=1"}, []string{
			"events.accessed_everything.enabled (CLICKHOUSE_ONLY_RESOURCES): " + noAuditEvents,
		}},
		"Observations to ClickHouse": {[]string{usage, "CLICKHOUSE_ONLY_RESOURCES=Observation"}, nil},
		"no AuditEvents, no access logs": {[]string{usage, "ENABLE_ACCESS_AUDIT_EVENT=0", "ENABLE_ACCESS_LOGS_MONGODB=0"}, []string{
			"events.accessed_everything.enabled (ENABLE_ACCESS_AUDIT_EVENT, ENABLE_ACCESS_LOGS_MONGODB): say that the FHIR server writes neither AuditEvents nor access logs to MongoDB: " +
				"no usage event can come; switch the kind off here and leave it with the FHIR server",
		}},
		"no access logs":          {[]string{usage, "ENABLE_ACCESS_LOGS_MONGODB=0"}, nil},
		"no AuditEvents, no kind": {[]string{"CLICKHOUSE_ONLY_RESOURCES=AuditEvent"}, nil},
		"without Kafka":           {[]string{"FHIR_CDC_SINK=stdout", "KAFKA_SASL_USERNAME=fhir"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Load(LoadOptions{Environ: slices.Concat(base, c.environ)})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range cfg.Warnings() {
				got = append(got, f.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// A secret in an argument is warned of, and not shown. A connection string without a login is none.
func TestSecretsInArguments(t *testing.T) {
	const warning = " (--set): is a secret, and the arguments of a process can be read by others: use a variable, or one that ends in _FILE"
	cfg, err := Load(LoadOptions{
		Environ: []string{"KAFKA_URLS=localhost:9092", "ENABLE_EVENTS_KAFKA=1", "KAFKA_SASL=1", "KAFKA_SASL_MECHANISM=plain", "KAFKA_SASL_USERNAME=fhir"},
		Set:     []string{"mongodb.uri=mongodb://localhost/?replicaSet=rs0", "mongodb.history.uri=mongodb://u:s3cr3t@localhost", "kafka.sasl.password=s3cr3t", "name=n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range cfg.Warnings() {
		got = append(got, f.String())
	}
	if diff := cmp.Diff([]string{"mongodb.history.uri" + warning, "kafka.sasl.password" + warning}, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// A draft is what could be read of a faulty configuration, with its faults.
func TestDraft(t *testing.T) {
	cfg, err := Draft(LoadOptions{Environ: []string{"KAFKA_URLS=localhost:9092", "FHIR_CDC_BATCH_MAX_RECORDS=many"}})
	if err == nil || cfg == nil {
		t.Fatalf("%v, %v: want both", cfg, err)
	}
	if got := cfg.Kafka.Brokers; !slices.Equal(got, []string{"localhost:9092"}) || cfg.Batch.MaxRecords != Default().Batch.MaxRecords {
		t.Errorf("brokers %v, max_records %d", got, cfg.Batch.MaxRecords)
	}
}
