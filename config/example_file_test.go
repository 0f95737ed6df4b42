package config

import (
	"flag"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fhir-cdc/fhir-cdc/test/held"
)

const configYAML = "../config.yaml"

// TestConfigYAML holds config.yaml equal to the defaults and to the comments of
// the table. After a change: go test ./config -run TestConfigYAML -update.
func TestConfigYAML(t *testing.T) {
	want, err := Example()
	if err != nil {
		t.Fatal(err)
	}
	held.Equal(t, configYAML, want, *update, "go test ./config -run TestConfigYAML -update")
}

// TestConfigYAMLIsDefault reads config.yaml as a user would. What has no default
// comes from the environment and is taken out again before comparing.
func TestConfigYAMLIsDefault(t *testing.T) {
	got, err := Load(LoadOptions{File: configYAML, Environ: []string{"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092"}})
	if err != nil {
		t.Fatal(err)
	}
	got.MongoDB.URI, got.Kafka.Brokers = "", []string{}
	if diff := cmp.Diff(Default(), got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("config.yaml does not hold the defaults (-default +file):\n%s", diff)
	}
}

var update = flag.Bool("update", false, "write config.yaml and docs/configuration.md anew")
