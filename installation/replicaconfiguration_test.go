package installation_test

import (
	"testing"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
)

// A kind that is off is nothing that replicas differ in. Where it is on, its resource types are.
func TestReplicasCompareKinds(t *testing.T) {
	events := func(more ...string) string {
		c, err := config.Load(config.LoadOptions{Environ: append([]string{
			"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092", "AUDIT_EVENT_MONGO_DB_NAME=audit", "ACCESS_LOGS_MONGO_DB_NAME=access",
			"ENABLE_EVENTS_KAFKA=1", "ENABLE_BULK_EXPORT_KAFKA_EVENTS=1", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS=1",
		}, more...)})
		if err != nil {
			t.Fatal(err)
		}
		compared, err := installation.ReplicaConfiguration(c, installation.Plan(c), 8)
		if err != nil {
			t.Fatal(err)
		}
		return compared[0].Value + " " + compared[1].Value
	}
	off := events()
	if got := events("SSE_ENABLED_RESOURCES=Patient"); got != off {
		t.Errorf("the types of a kind that is off are compared: %s, %s", off, got)
	}
	if got := events("FHIR_CDC_EVENTS_EXPORT_PROFILE=seed"); got != off {
		t.Errorf("the profile that kinds have anyway is compared: %s, %s", off, got)
	}
	if got := events("FHIR_CDC_EVENTS_EXPORT_PROFILE=strict"); got == off {
		t.Error("the profile is not compared")
	}
	seen := map[string]bool{off: true}
	for _, of := range [][]string{
		{"KAFKA_ENABLED_RESOURCES=Consent,Patient", "SSE_ENABLED_RESOURCES=Consent"},
		{"KAFKA_ENABLED_RESOURCES=Consent", "SSE_ENABLED_RESOURCES=Consent,Patient"},
		{"KAFKA_ENABLED_RESOURCES=Consent,Patient", "SSE_ENABLED_RESOURCES=Consent,Patient"},
		{"KAFKA_ENABLED_RESOURCES=Consent,Patient", "SSE_ENABLED_RESOURCES=Consent,Patient", "FHIR_CDC_EVENTS_RESOURCE_CHANGE_DELETES=false"},
	} {
		got := events(append(of, "ENABLE_SSE_KAFKA_EVENTS=1")...)
		if seen[got] {
			t.Errorf("%v: as another configuration", of)
		}
		seen[got] = true
	}
	one := events("ENABLE_SSE_KAFKA_EVENTS=1", "SSE_ENABLED_RESOURCES=Consent,Patient")
	if other := events("ENABLE_SSE_KAFKA_EVENTS=1", "SSE_ENABLED_RESOURCES=Patient,Consent"); one != other {
		t.Error("the order of resource types matters")
	}
}
