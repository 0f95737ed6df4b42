package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// server is a minimal environment of the FHIR server.
var server = []string{"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092", "ENABLE_EVENTS_KAFKA=1"}

func with(environ ...string) []string { return append(append([]string{}, server...), environ...) }

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, opts LoadOptions) *Config {
	t.Helper()
	cfg, err := Load(opts)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func get(t *testing.T, cfg *Config, key string) any {
	t.Helper()
	field := fieldOf(cfg, key)
	if !field.IsValid() {
		t.Fatalf("no key %s", key)
	}
	return field.Interface()
}

func TestPrecedence(t *testing.T) {
	const key = "events.change.topic"
	file := "events: {change: {topic: file}}"
	serverVar, own := "KAFKA_RESOURCE_CHANGE_TOPIC=server", "FHIR_CDC_EVENTS_CHANGE_TOPIC=own"
	set, flag := []string{key + "=set"}, []Flag{{"--topic", key, "flag"}}
	tests := []struct {
		name, file string
		environ    []string
		set        []string
		flags      []Flag
		want       string
		origin     string
	}{
		{name: "default", want: "business.events", origin: "default"},
		{name: "file", file: file, want: "file", origin: "c.yaml:1"},
		{name: "server over file", file: file, environ: []string{serverVar}, want: "server", origin: "KAFKA_RESOURCE_CHANGE_TOPIC"},
		{name: "own over server", file: file, environ: []string{own, serverVar}, want: "own", origin: "FHIR_CDC_EVENTS_CHANGE_TOPIC"},
		{name: "set over own", file: file, environ: []string{own, serverVar}, set: set, want: "set", origin: "--set"},
		{name: "flag over set", file: file, environ: []string{own, serverVar}, set: set, flags: flag, want: "flag", origin: "--topic"},
		{name: "empty variables are not set", file: file, environ: []string{"KAFKA_RESOURCE_CHANGE_TOPIC=", "FHIR_CDC_EVENTS_CHANGE_TOPIC="}, want: "file", origin: "c.yaml:1"},
		{name: "null in the file is not set", file: "events: {change: {topic: ~}}", want: "business.events", origin: "default"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			opts := LoadOptions{Environ: with(test.environ...), Set: test.set, Flags: test.flags}
			if test.file != "" {
				opts.File = write(t, "c.yaml", test.file)
			}
			cfg := mustLoad(t, opts)
			if got := cfg.Events.Change.Topic; got != test.want {
				t.Errorf("topic is %q, want %q", got, test.want)
			}
			for _, o := range cfg.Origins() {
				if o.Key == key && filepath.Base(o.Origin) != test.origin {
					t.Errorf("origin is %q, want %q", o.Origin, test.origin)
				}
			}
		})
	}
}

// TestEveryKeyByOwnVariable sets each key by its variable, and by --set, to a
// value that is not its default.
func TestEveryKeyByOwnVariable(t *testing.T) {
	values := map[string]string{
		"http.address": "127.0.0.1:1",
		"http.token":   "0123456789abcdef", "tracing.endpoint": "http://collector.test:4318",
		"start": "oldest", "mongodb.uri": "mongodb://own:1", "kafka.brokers": "own:1,own:2",
		"events.change.resources": "Patient,Person", "events.resource_change.resources": "Patient,Person", "delivery": "at_least_once", "sink": "stdout",
		"kafka.compression": "zstd", "kafka.sasl.mechanism": "plain", "checkpoint.store": "file",
		"streams":                         `[{name: exports, resources: [ExportStatus]}]`,
		"kafka.sasl.oauth.token_endpoint": "https://login.test/token",
		"log.level":                       "debug", "log.format": "console", "checkpoint.mongodb.uri": "mongodb://own:2",
		"mongodb.history.uri": "mongodb://own:3", "mongodb.access_logs.uri": "mongodb://own:4", "mongodb.audit_events.uri": "mongodb://own:5",
	}
	// What must go along for the configuration to be valid.
	along := []string{
		"delivery=at_least_once", "mongodb.username=u", "mongodb.history.username=u", "mongodb.access_logs.username=u",
		"mongodb.audit_events.username=u", "mongodb.history.uri=mongodb://h", "mongodb.access_logs.uri=mongodb://h",
		"mongodb.audit_events.uri=mongodb://h", "kafka.tls.enabled=true", "kafka.tls.cert_file=f", "kafka.tls.key_file=f",
		"kafka.sasl.username=u", "kafka.sasl.password=p", "http.tls.cert_file=f", "http.tls.key_file=f",
	}
	for _, k := range allKeys() {
		field := fieldOf(Default(), k.Key)
		text, ok := values[k.Key]
		switch {
		case ok:
		case len(k.Values) > 0:
			text = k.Values[len(k.Values)-1]
		case field.Kind() == reflect.Bool:
			text = map[bool]string{true: "false", false: "true"}[field.Bool()]
		case field.Type() == reflect.TypeFor[time.Duration]():
			text = "7s"
		case field.Kind() == reflect.Int:
			text = "1025"
		default:
			text = "own"
		}
		want, wrong := parse(field.Type(), text)
		if wrong != "" {
			t.Fatalf("%s: %s", k.Key, wrong)
		}
		var rest []string
		for _, a := range along {
			withoutTLS := k.Key == "kafka.tls.enabled" && strings.HasPrefix(a, "kafka.tls.")
			if !withoutTLS && !strings.HasPrefix(a, k.Key+"=") {
				rest = append(rest, a)
			}
		}
		t.Run(k.Key, func(t *testing.T) {
			enabled := "FHIR_CDC_EVENTS_EXPORT_ENABLED=true"
			if k.Key == "events.export.enabled" {
				enabled = ""
			}
			byVariable := mustLoad(t, LoadOptions{Environ: with(k.Env+"="+text, enabled), Set: rest})
			if diff := cmp.Diff(want, get(t, byVariable, k.Key)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", k.Env, diff)
			}
			bySet := mustLoad(t, LoadOptions{Environ: with(enabled), Set: append(rest, k.Key+"="+text)})
			if diff := cmp.Diff(want, get(t, bySet, k.Key)); diff != "" {
				t.Errorf("--set: -want +got:\n%s", diff)
			}
		})
	}
}

func TestServerVariables(t *testing.T) {
	type variable struct {
		variable, value, key string
		want                 any
		environ              []string
	}
	tests := []variable{
		{"MONGO_URL", "mongodb://other:1", "mongodb.uri", Secret("mongodb://other:1"), nil},
		{"MONGO_URL", "mongodb://other:1/?appName=fhir server", "mongodb.uri", Secret("mongodb://other:1/?appName=fhir%20server"), nil},
		{"MONGO_HOSTNAME", "db", "mongodb.hostname", "db", nil},
		{"MONGO_PORT", "27018", "mongodb.port", 27018, nil},
		{"MONGO_PORT", "tcp://10.0.0.1:27017", "mongodb.port", 27017, nil},
		{"MONGO_USERNAME", "u", "mongodb.username", "u", nil},
		{"MONGO_PASSWORD", "p", "mongodb.password", Secret("p"), []string{"MONGO_USERNAME=u"}},
		{"MONGO_DB_NAME", "db", "mongodb.database", "db", nil},
		{"RESOURCE_HISTORY_MONGO_URL", "mongodb://h", "mongodb.history.uri", Secret("mongodb://h"), nil},
		{"RESOURCE_HISTORY_MONGO_USERNAME", "u", "mongodb.history.username", "u", []string{"RESOURCE_HISTORY_MONGO_URL=mongodb://h"}},
		{"RESOURCE_HISTORY_MONGO_PASSWORD", "p", "mongodb.history.password", Secret("p"), []string{"RESOURCE_HISTORY_MONGO_URL=mongodb://h", "RESOURCE_HISTORY_MONGO_USERNAME=u"}},
		{"RESOURCE_HISTORY_MONGO_DB_NAME", "resource-history", "mongodb.history.database", "resource-history", nil},
		{"ACCESS_LOGS_CLUSTER_MONGO_URL", "mongodb://h", "mongodb.access_logs.uri", Secret("mongodb://h"), nil},
		{"ACCESS_LOGS_MONGO_USERNAME", "u", "mongodb.access_logs.username", "u", []string{"ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://h"}},
		{"ACCESS_LOGS_MONGO_PASSWORD", "p", "mongodb.access_logs.password", Secret("p"), []string{"ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://h", "ACCESS_LOGS_MONGO_USERNAME=u"}},
		{"ACCESS_LOGS_MONGO_DB_NAME", "access-logs", "mongodb.access_logs.database", "access-logs", nil},
		{"AUDIT_EVENT_MONGO_URL", "mongodb://h", "mongodb.audit_events.uri", Secret("mongodb://h"), nil},
		{"AUDIT_EVENT_MONGO_USERNAME", "u", "mongodb.audit_events.username", "u", []string{"AUDIT_EVENT_MONGO_URL=mongodb://h"}},
		{"AUDIT_EVENT_MONGO_PASSWORD", "p", "mongodb.audit_events.password", Secret("p"), []string{"AUDIT_EVENT_MONGO_URL=mongodb://h", "AUDIT_EVENT_MONGO_USERNAME=u"}},
		{"AUDIT_EVENT_MONGO_DB_NAME", "audit-event", "mongodb.audit_events.database", "audit-event", nil},
		{"ENABLE_EVENTS_KAFKA", "1", "events.change.enabled", true, nil},
		{"ENABLE_EVENTS_KAFKA", "TRUE", "events.change.enabled", true, nil},
		{"ENABLE_EVENTS_KAFKA", "yes", "events.change.enabled", false, []string{"ENABLE_BULK_EXPORT_KAFKA_EVENTS=1"}},
		{"ENABLE_BULK_EXPORT_KAFKA_EVENTS", "True", "events.export.enabled", true, nil},
		{"ENABLE_BULK_EXPORT_KAFKA_EVENTS", "0", "events.export.enabled", false, nil},
		{"ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS", "1", "events.accessed_everything.enabled", true, nil},
		{"SSE_ENABLED_RESOURCES", " Patient , Person,,Patient", "events.resource_change.resources", []string{"Patient", "Person"}, nil},
		{"KAFKA_ENABLED_RESOURCES", " Patient , Person,,Patient", "events.change.resources", []string{"Patient", "Person"}, nil},
		{"KAFKA_RESOURCE_CHANGE_TOPIC", "t", "events.change.topic", "t", nil},
		{"KAFKA_BULK_EXPORT_EVENT_TOPIC", "t", "events.export.topic", "t", nil},
		{"KAFKA_FHIR_OPERATION_USAGE_EVENT_TOPIC", "t", "events.accessed_everything.topic", "t", nil},
		{"KAFKA_URLS", "a:1, b:2", "kafka.brokers", []string{"a:1", "b:2"}, nil},
		{"KAFKA_CLIENT_ID", "fhir-server", "kafka.client_id", "fhir-server", nil},
		{"KAFKA_SSL", "1", "kafka.tls.enabled", true, nil},
		{"KAFKA_SSL", "no", "kafka.tls.enabled", false, nil},
		{"KAFKA_SASL", "true", "kafka.sasl.enabled", true, nil},
		{"KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", "kafka.sasl.mechanism", SASLScramSHA512, nil},
		{"KAFKA_SASL_USERNAME", "u", "kafka.sasl.username", "u", nil},
		{"KAFKA_SASL_PASSWORD", "p", "kafka.sasl.password", Secret("p"), nil},
	}
	for _, kind := range mapper.Kinds() {
		key := "events." + string(kind.Name)
		tests = append(tests,
			variable{kind.EnableVariable, "1", key + ".enabled", true, nil},
			variable{kind.TopicVariable, "t", key + ".topic", "t", nil})
	}
	covered := make(map[string]bool)
	for _, test := range tests {
		covered[test.variable] = true
		t.Run(test.variable+"="+test.value, func(t *testing.T) {
			cfg := mustLoad(t, LoadOptions{Environ: append(with(test.environ...), test.variable+"="+test.value)})
			if diff := cmp.Diff(test.want, get(t, cfg, test.key)); diff != "" {
				t.Errorf("%s: -want +got:\n%s", test.key, diff)
			}
		})
	}
	for _, k := range allKeys() {
		for _, v := range k.ServerEnv {
			if !covered[v] {
				t.Errorf("%s has no test", v)
			}
		}
	}
}

func TestKinds(t *testing.T) {
	all := [4]bool{true, true, true, false}
	tests := []struct {
		name    string
		file    string
		environ []string
		want    [4]bool
	}{
		{"no file: off unless named", "", []string{"ENABLE_EVENTS_KAFKA=", "ENABLE_BULK_EXPORT_KAFKA_EVENTS=1"}, [4]bool{false, true, false, false}},
		{"no file: own variable", "", []string{"ENABLE_EVENTS_KAFKA=0", "FHIR_CDC_EVENTS_ACCESSED_EVERYTHING_ENABLED=true"}, [4]bool{false, false, true, false}},
		{"file that does not mention them", "name: x", []string{"ENABLE_EVENTS_KAFKA="}, all},
		{"file holds", "events: {export: {enabled: false}}", []string{"ENABLE_EVENTS_KAFKA="}, [4]bool{true, false, true, false}},
		{"server over file", "events: {export: {enabled: false}}", []string{"ENABLE_EVENTS_KAFKA=0", "ENABLE_BULK_EXPORT_KAFKA_EVENTS=1"}, [4]bool{false, true, true, false}},
		{"to be asked for", "", []string{"ENABLE_SSE_KAFKA_EVENTS=1", "ENABLE_EVENTS_KAFKA="}, [4]bool{false, false, false, true}},
		{"to be asked for, in a file", "events: {resource_change: {enabled: true}}", []string{"ENABLE_EVENTS_KAFKA="}, [4]bool{true, true, true, true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			opts := LoadOptions{Environ: with(test.environ...)}
			if test.file != "" {
				// By the variable, as a container would.
				opts.Environ = append(opts.Environ, "FHIR_CDC_CONFIG="+write(t, "c.yaml", test.file))
			}
			e := mustLoad(t, opts).Events
			if got := [4]bool{e.Change.Enabled, e.Export.Enabled, e.AccessedEverything.Enabled, e.ResourceChange.Enabled}; got != test.want {
				t.Errorf("enabled are %v, want %v", got, test.want)
			}
		})
	}
}
