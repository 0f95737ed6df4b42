package compose_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// composeFile is what `docker compose config` makes of the file.
type composeFile struct {
	Services map[string]struct {
		Image       string
		Environment map[string]string
		Healthcheck *struct{ Disable bool }
		Volumes     []struct{ Type, Source string }
		Attach      *bool
		Ports       []struct {
			HostIP string `json:"host_ip"`
		}
	}
}

func (s *stack) config(args ...string) composeFile {
	s.t.Helper()
	var c composeFile
	s.decode(&c, append(append([]string{"compose"}, args...), "config", "--format", "json")...)
	return c
}

func TestServices(t *testing.T) {
	needDocker(t, false)
	s := newStack(t)
	c := s.config()
	if diff := cmp.Diff([]string{"fhir-cdc", "kafka", "mongo"}, slices.Sorted(maps.Keys(c.Services))); diff != "" {
		t.Errorf("services without a profile (-want +got):\n%s", diff)
	}
	for name, service := range c.Services {
		if len(service.Volumes) == 0 {
			t.Errorf("%s has no volume", name)
		}
		// The image of fhir-cdc brings its own.
		if name != "fhir-cdc" && service.Healthcheck == nil || service.Healthcheck != nil && service.Healthcheck.Disable {
			t.Errorf("%s has no health check", name)
		}
		if shown := service.Attach == nil || *service.Attach; shown != (name == "fhir-cdc") {
			t.Errorf("`docker compose up` shows the log of %s: %t", name, shown)
		}
		for _, p := range service.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s listens on %q, want this machine only: nothing here asks for a login", name, p.HostIP)
			}
		}
	}
}

// The FHIR server and fhir-cdc read and write the same servers, and of every event kind
// exactly one of them is the producer.
func TestFHIRServerProfile(t *testing.T) {
	needDocker(t, false)
	s := newStack(t)
	services := s.config("--profile", "fhir-server").Services
	server, daemon := services["fhir-server"].Environment, services["fhir-cdc"].Environment
	if services["fhir-server"].Image == "" || services["fhir-server"].Healthcheck == nil {
		t.Error("the profile fhir-server has no server with an image and a health check")
	}
	for _, name := range []string{
		"MONGO_URL", "MONGO_DB_NAME", "RESOURCE_HISTORY_MONGO_URL", "RESOURCE_HISTORY_MONGO_DB_NAME",
		"AUDIT_EVENT_MONGO_URL", "AUDIT_EVENT_MONGO_DB_NAME", "ACCESS_LOGS_CLUSTER_MONGO_URL", "ACCESS_LOGS_MONGO_DB_NAME", "KAFKA_URLS",
	} {
		if server[name] == "" || server[name] != daemon[name] {
			t.Errorf("%s is %q for the server and %q for fhir-cdc, want one value", name, server[name], daemon[name])
		}
	}
	for _, name := range []string{"ENABLE_EVENTS_KAFKA", "ENABLE_BULK_EXPORT_KAFKA_EVENTS", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS"} {
		if server[name] != "0" || daemon[name] != "1" {
			t.Errorf("%s is %q for the server and %q for fhir-cdc, want 0 and 1", name, server[name], daemon[name])
		}
	}
}
