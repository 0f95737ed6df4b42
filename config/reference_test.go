package config

import (
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/held"
)

// docs/configuration.md is what the code says.
func TestConfigurationIsDocumented(t *testing.T) {
	held.Equal(t, "../docs/configuration.md", []byte(Reference()), *update, "make docs")
}

// Every key has an example, which is none of a key that there is not, and works.
func TestExamplesWork(t *testing.T) {
	left := examples()
	for _, k := range Keys() {
		example, ok := left[k.Key]
		delete(left, k.Key)
		if !ok || example == "" {
			t.Errorf("%s has no example", k.Key)
			continue
		}
		if k.Secret && example == "…" {
			continue // A secret's example would be copied.
		}
		_, err := Draft(LoadOptions{Set: append(beside(), k.Key+"="+example)})
		if err == nil {
			continue
		}
		for line := range strings.Lines(err.Error()) {
			if strings.Contains(line, "(--set)") && strings.Contains(line, k.Key+" ") {
				t.Errorf("the example %q: %s", example, line)
			}
		}
	}
	for key := range left {
		t.Errorf("an example of %s, which is no key", key)
	}
}

// beside is what some examples need beside them.
func beside() []string {
	set := []string{
		"delivery=at_least_once", "events.change.enabled=true", "events.change.resources=Observation",
		"kafka.tls.enabled=true", "kafka.tls.cert_file=c", "kafka.tls.key_file=k", "http.tls.cert_file=c", "http.tls.key_file=k",
	}
	for _, part := range []string{"mongodb", "mongodb.history", "mongodb.access_logs", "mongodb.audit_events"} {
		set = append(set, part+".uri=mongodb://localhost")
	}
	return set
}
