package config

import (
	"flag"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fhir-cdc/fhir-cdc/test/held"
)

const configYAML = "../config.yaml"

// TestConfigYAML holds config.yaml equal to the defaults and to the comments of
// the table. After a change: go test ./config -run TestConfigYAML -update.
func TestConfigYAML(t *testing.T) {
	want, err := example()
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

const exampleHeader = `# Every key of fhir-cdc with its default. A key may be left out; an unknown one is
# an error. Durations need a unit (500ms, 30s, 5m).
#
# Stronger than this file are, the strongest first:
#   flags                           --set topics.create=true
#   environment variables           FHIR_CDC_TOPICS_CREATE=true
#   the FHIR server's own variables, named below where a key has one
# A variable with _FILE at its end names a file with the value (FHIR_CDC_MONGODB_URI_FILE,
# MONGO_PASSWORD_FILE; for connection strings, user names, passwords and tokens).

`

// example returns the text of config.yaml: every key with its default and a
// comment with its unit, values and variables. A test holds the file equal to it.
func example() ([]byte, error) {
	text, err := encodeYAML(Default().tree(comment))
	if err != nil {
		return nil, err
	}
	return []byte(exampleHeader + spaced(string(text))), nil
}

// comment is the line above a key in config.yaml.
func comment(s spec) string {
	line := "# " + s.comment
	if s.unit != "" {
		line = strings.TrimSuffix(line, ".") + " [" + s.unit + "]."
	}
	if len(s.values) > 0 {
		line += " One of " + strings.Join(s.values, ", ") + "."
	}
	if len(s.server) > 0 {
		line += " FHIR server: " + strings.Join(s.server, ", ") + "."
	}
	return line
}

// spaced puts a blank line before each comment at the left edge, so that the eye
// finds the sections.
func spaced(text string) string {
	return strings.ReplaceAll(text, "\n# ", "\n\n# ")
}
