package config

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

// TestRedactedYAMLLoads feeds what is printed back in. Without secrets nothing may
// be lost.
func TestRedactedYAMLLoads(t *testing.T) {
	cfg := mustLoad(t, LoadOptions{Environ: server, Set: []string{"name=007", "checkpoint.idle_interval=1h30m", "mongodb.max_await=1m", "kafka.client_id=true", "kafka.sasl.username=~"}})
	text, err := cfg.RedactedYAML()
	if err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, LoadOptions{File: write(t, "c.yaml", string(text))})
	if diff := cmp.Diff(cfg, again, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("printed and read again (-before +after):\n%s\n%s", diff, text)
	}
}

func TestRedactedJSON(t *testing.T) {
	cfg := mustLoad(t, LoadOptions{Environ: server, Set: []string{`kafka.client_id=<a&"b">`}})
	asJSON, err := cfg.RedactedJSON()
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := cfg.RedactedYAML()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(asJSON) {
		t.Fatalf("not JSON:\n%s", asJSON)
	}
	// JSON is YAML, so that one decoder gives the same types for both.
	var fromJSON, fromYAML map[string]any
	if err := errors.Join(yaml.Unmarshal(asJSON, &fromJSON), yaml.Unmarshal(asYAML, &fromYAML)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromYAML, fromJSON); diff != "" {
		t.Errorf("YAML and JSON differ (-yaml +json):\n%s", diff)
	}
	if strings.Index(string(asJSON), `"name"`) > strings.Index(string(asJSON), `"batch"`) {
		t.Error("JSON is not in the order of config.yaml")
	}
}

func TestOrigins(t *testing.T) {
	file := write(t, "c.yaml", "name: x\nkafka:\n  brokers:\n    - a:1\n")
	cfg := mustLoad(t, LoadOptions{
		File: file, Environ: []string{"MONGO_URL=mongodb://u:p@db", "FHIR_CDC_LOG_LEVEL=debug"}, Set: []string{"batch.max_records=5"},
	})
	want := map[string]KeyOrigin{
		"name":              {"name", "x", file + ":1"},
		"kafka.brokers":     {"kafka.brokers", "a:1", file + ":4"},
		"mongodb.uri":       {"mongodb.uri", "mongodb://[redacted]@db", "MONGO_URL"},
		"log.level":         {"log.level", "debug", "FHIR_CDC_LOG_LEVEL"},
		"batch.max_records": {"batch.max_records", "5", "--set"},
		"batch.max_bytes":   {"batch.max_bytes", "8388608", "default"},
	}
	origins := cfg.Origins()
	if len(origins) != len(allKeys()) {
		t.Errorf("%d origins, %d keys", len(origins), len(allKeys()))
	}
	for _, o := range origins {
		if w, ok := want[o.Key]; ok && o != w {
			t.Errorf("origin is %+v, want %+v", o, w)
		}
	}
}
