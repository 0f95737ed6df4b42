package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// faultsOf loads and returns the error's text; it must be an *Error.
func faultsOf(t *testing.T, opts LoadOptions) string {
	t.Helper()
	_, err := Load(opts)
	var faults *Error
	if !errors.As(err, &faults) {
		t.Fatalf("error is %v, want *Error", err)
	}
	return err.Error()
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name    string
		file    string
		environ []string
		set     []string
		want    []string
	}{
		{name: "unknown key", file: "kafka:\n  borkers: [a:1]", want: []string{"kafka.borkers (", "c.yaml:2): ", "did you mean kafka.brokers?"}},
		{name: "unknown section", file: "mongo: {uri: x}", want: []string{"mongo (", "did you mean mongodb?"}},
		{name: "key in the wrong section", file: "brokers: [a:1]", want: []string{"did you mean kafka.brokers?"}},
		{name: "unknown key, three deep", file: "checkpoint: {mongodb: {databse: x}}", want: []string{"did you mean checkpoint.mongodb.database?"}},
		{name: "wrong case", file: "Name: x", want: []string{"did you mean name?"}},
		{name: "unknown variable", environ: []string{"FHIR_CDC_TOPIC_CREATE=true"}, want: []string{"FHIR_CDC_TOPIC_CREATE: ", "did you mean FHIR_CDC_TOPICS_CREATE?"}},
		{name: "the server's variable with our prefix", environ: []string{"FHIR_CDC_KAFKA_URLS=a:1"}, want: []string{"did you mean FHIR_CDC_KAFKA_BROKERS?"}},
		{name: "unknown key by --set", set: []string{"topics.creat=true"}, want: []string{"topics.creat (--set): ", "did you mean topics.create?"}},
		{name: "section by --set", set: []string{"topics=true"}, want: []string{"topics (--set): is a section"}},
		{name: "--set without value", set: []string{"topics.create"}, want: []string{"is not key=value"}},
		{name: "value for a section", file: "kafka: yes", want: []string{"kafka (", "is a section"}},
		{name: "section for a value", file: "name: {a: 1}", want: []string{"takes a single value"}},
		{name: "list in a list", file: "kafka: {brokers: [[a]]}", want: []string{"takes a list of plain values"}},
		{name: "set twice", file: "name: a\nname: b", want: []string{"c.yaml:2): is set twice, first in line 1"}},
		{name: "set twice, dotted", file: "topics: {create: true}\ntopics.create: true", want: []string{"is set twice"}},
		{name: "merge key", file: "log: {<<: {level: info}}", want: []string{"log.<<"}},
		{name: "not YAML", file: "a: [", want: []string{"is not valid YAML"}},
		{name: "two documents", file: "name: a\n---\nname: b", want: []string{"more than one YAML document"}},
		{name: "bare number in the file", file: "facts: {wait: 5}", want: []string{`c.yaml:1): "5" has no unit: write a unit, such as 5s`}},
		{name: "bare zero", file: "facts: {wait: 0}", want: []string{"has no unit"}},
		{name: "bare number in a variable", environ: []string{"FHIR_CDC_FACTS_WAIT=5"}, want: []string{"(FHIR_CDC_FACTS_WAIT): ", "has no unit"}},
		{name: "not a duration", set: []string{"facts.wait=soon"}, want: []string{"is not a duration"}},
		{name: "not a boolean", environ: []string{"FHIR_CDC_TOPICS_CREATE=yes"}, want: []string{`"yes" is neither true nor false`}},
		{name: "not a number", set: []string{"batch.max_bytes=8MiB"}, want: []string{"is not a whole number"}},
		{name: "too small", set: []string{"batch.max_bytes=10"}, want: []string{"10 is not between 1024 and"}},
		{name: "too long", set: []string{"facts.wait=5000h"}, want: []string{"5000h is not between 0s and 1h"}},
		{name: "not in the set", set: []string{"delivery=twice"}, want: []string{`"twice" is not one of exactly_once, at_least_once`}},
		{name: "a profile that there is not", environ: []string{"FHIR_CDC_EVENTS_EXPORT_PROFILE=loose"}, want: []string{"(FHIR_CDC_EVENTS_EXPORT_PROFILE): ", `"loose" is not one of seed, strict`}},
		{name: "windows of no whole seconds", set: []string{"events.data_change_window=1500ms"}, want: []string{"is not of whole seconds"}},
		{name: "a profile that the kind has not", set: []string{"events.resource_change.profile=strict"}, want: []string{`"strict" is not one of seed`}},
		{name: "name", set: []string{"name=a b"}, want: []string{"is not a name"}},
		{name: "start", set: []string{"start=yesterday"}, want: []string{"is neither now, oldest nor a time"}},
		{name: "topic", set: []string{"topics.positions=a/b"}, want: []string{"is not a topic name"}},
		{name: "topic of two dots", set: []string{"topics.positions=.."}, want: []string{"is not a topic name"}},
		{name: "database", set: []string{"mongodb.database=a.b"}, want: []string{"is not a database name"}},
		{name: "no database", set: []string{"mongodb.database="}, want: []string{"mongodb.database (--set): is empty"}},
		{name: "broker", set: []string{"kafka.brokers=a:1,b"}, want: []string{`"b" is not host:port`}},
		{name: "host name", environ: []string{"MONGO_URL=", "MONGO_HOSTNAME=a:1"}, want: []string{"is not a host name"}},
		{name: "not a MongoDB URI", set: []string{"mongodb.uri=postgres://x"}, want: []string{"is not a MongoDB URI"}},
		{name: "srv with port", set: []string{"mongodb.uri=mongodb+srv://a:1"}, want: []string{"takes one host name and no port"}},
		{name: "URI option", set: []string{"mongodb.uri=mongodb://a/?maxPoolSize=x"}, want: []string{"invalid value for the option maxPoolSize"}},
		{name: "AuditEvent", set: []string{"events.change.resources=Consent,AuditEvent"}, want: []string{"AuditEvent never makes change events"}},
		{name: "resource type", set: []string{"events.change.resources=consent"}, want: []string{"is not a FHIR resource type"}},
		{name: "no resource type of another kind", set: []string{"events.resource_change.enabled=true", "events.resource_change.resources="}, want: []string{"or set events.resource_change.enabled: false"}},
		{name: "no resource type", set: []string{"events.change.resources="}, want: []string{"names no resource type"}},
		{name: "no kind", environ: []string{"ENABLE_EVENTS_KAFKA=0"}, want: []string{"ENABLE_EVENTS_KAFKA", "ENABLE_BULK_EXPORT_KAFKA_EVENTS", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS", "FHIR_CDC_EVENTS_CHANGE_ENABLED"}},
		{name: "no MongoDB", environ: []string{"MONGO_URL="}, want: []string{"mongodb.uri: is not set", "MONGO_URL"}},
		{name: "no brokers", environ: []string{"KAFKA_URLS="}, want: []string{"kafka.brokers: is not set", "KAFKA_URLS"}},
		{name: "exactly once with a file", set: []string{"checkpoint.store=file"}, want: []string{"checkpoint.store (--set): must be kafka"}},
		{name: "password without user", set: []string{"mongodb.password=x"}, want: []string{"mongodb.password (--set): is set, but mongodb.username is not"}},
		{name: "user without URI", set: []string{"mongodb.history.username=x"}, want: []string{"mongodb.history.uri is not"}},
		{name: "half a certificate of the port", set: []string{"http.tls.key_file=x"}, want: []string{"http.tls.cert_file: goes together"}},
		{name: "a host that is a URL", set: []string{"http.allowed_hosts=cdc.test,https://cdc.test"}, want: []string{`http.allowed_hosts (--set): "https://cdc.test" is more than a name`}},
		{name: "a token that can be guessed", set: []string{"http.token=letmein"}, want: []string{"http.token (--set): can be guessed: it has 7 of the 16 characters"}},
		{name: "half a certificate", set: []string{"kafka.tls.enabled=true", "kafka.tls.cert_file=x"}, want: []string{"set both or none"}},
		{name: "TLS files without TLS", set: []string{"kafka.tls.ca_file=x"}, want: []string{"would not be encrypted"}},
		{name: "scram without password", set: []string{"kafka.sasl.enabled=true", "kafka.sasl.mechanism=scram-sha-256"}, want: []string{"kafka.sasl.username: is not set", "kafka.sasl.password: is not set"}},
		{name: "no token", set: []string{"kafka.sasl.enabled=true", "kafka.sasl.mechanism=oauthbearer"}, want: []string{"kafka.sasl.token"}},
		{name: "shared topics", set: []string{"topics.positions=business.events", "topics.dead_letters=business.events"}, want: []string{"positions need their own", "dead letters need their own"}},
		{name: "no replicas", set: []string{"topics.replication_factor=0"}, want: []string{"use -1"}},
		{name: "back-off", set: []string{"retry.min_backoff=1m"}, want: []string{"is less than retry.min_backoff"}},
		{name: "plain and file", environ: []string{"MONGO_PASSWORD=x", "MONGO_PASSWORD_FILE=/x"}, want: []string{"MONGO_PASSWORD and MONGO_PASSWORD_FILE", "are both set"}},
		{name: "missing secret file", environ: []string{"FHIR_CDC_MONGODB_URI_FILE=/does/not/exist"}, want: []string{"FHIR_CDC_MONGODB_URI_FILE", "cannot be read"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			opts := LoadOptions{Environ: with(test.environ...), Set: test.set}
			if test.file != "" {
				opts.File = write(t, "c.yaml", test.file)
			}
			text := faultsOf(t, opts)
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("error lacks %q:\n%s", want, text)
				}
			}
		})
	}
}

// TestManyFaults expects every fault of every origin in one error, one line each.
func TestManyFaults(t *testing.T) {
	text := faultsOf(t, LoadOptions{
		File:    write(t, "c.yaml", "delivery: never\nkafka:\n  linger: 5\n  kompression: lz4\nmongodb: {uri: nowhere}\n"),
		Environ: []string{"FHIR_CDC_BATCH_MAX_RECORDS=many", "FHIR_CDC_NAM=x", "KAFKA_URLS=a"},
		Set:     []string{"retry.max_backof=1s", "log.level=loud"},
	})
	for _, want := range []string{
		"(9 faults):", "delivery (", "c.yaml:1", "kafka.linger (", "c.yaml:3", "kafka.kompression", "mongodb.uri",
		"batch.max_records (FHIR_CDC_BATCH_MAX_RECORDS)", "FHIR_CDC_NAM:", "kafka.brokers (KAFKA_URLS)", "retry.max_backof (--set)", "log.level (--set)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("error lacks %q:\n%s", want, text)
		}
	}
	if lines := strings.Count(text, "\n"); lines != 9 {
		t.Errorf("%d lines, want one for each of 9 faults:\n%s", lines, text)
	}
}

func TestMissingFile(t *testing.T) {
	text := faultsOf(t, LoadOptions{File: "/does/not/exist.yaml", Environ: server})
	if !strings.Contains(text, "/does/not/exist.yaml: is not there; give the file with --config or FHIR_CDC_CONFIG") {
		t.Error(text)
	}
}

// TestForeignVariables are FHIR_CDC_ variables that others set.
func TestForeignVariables(t *testing.T) {
	environ := with(
		"FHIR_CDC_TEST_MONGODB_URI=mongodb://x", "FHIR_CDC_CACHE=/x",
		// A Service named fhir-cdc, and one named fhir-cdc-mongodb.
		"FHIR_CDC_SERVICE_HOST=10.0.0.1", "FHIR_CDC_SERVICE_PORT=9090", "FHIR_CDC_SERVICE_PORT_METRICS=9090",
		"FHIR_CDC_PORT=tcp://10.0.0.1:9090", "FHIR_CDC_PORT_9090_TCP=tcp://10.0.0.1:9090",
		"FHIR_CDC_PORT_9090_TCP_ADDR=10.0.0.1", "FHIR_CDC_MONGODB_PORT=tcp://10.0.0.1:27017",
	)
	if cfg := mustLoad(t, LoadOptions{Environ: environ}); cfg.MongoDB.Port != 27017 {
		t.Errorf("port is %d", cfg.MongoDB.Port)
	}
}

func TestStdoutNeedsNoKafka(t *testing.T) {
	cfg := mustLoad(t, LoadOptions{Environ: []string{"MONGO_URL=mongodb://db", "ENABLE_EVENTS_KAFKA=1"}, Set: []string{"sink=stdout", "checkpoint.store=file"}})
	if cfg.Delivery != ExactlyOnce {
		t.Errorf("delivery is %s", cfg.Delivery)
	}
}

// A name is suggested only if it may be what was meant.
func TestNearest(t *testing.T) {
	for unknown, want := range map[string]string{
		"kafka.borkers":              "did you mean kafka.brokers?",
		"kafka.nope":                 "config print",
		"kafka.xyz":                  "config print",
		"nope":                       "config print",
		"foo.enabled":                "config print",
		"uri":                        "did you mean mongodb.uri?",
		"mongo.uri":                  "did you mean mongodb.uri?",
		"mongodb.brokers":            "did you mean kafka.brokers?",
		"topics_create":              "did you mean topics.create?",
		"kafka.tl":                   "did you mean kafka.tls?",
		"kafka.tls.certfile":         "did you mean kafka.tls.cert_file?",
		"checkpoint.mongo.database":  "did you mean checkpoint.mongodb.database?",
		"events.change.resource":     "did you mean events.change.resources?",
		"":                           "config print",
		strings.Repeat("kafka.", 99): "config print",
	} {
		if got := unknownKey(unknown); !strings.Contains(got, want) {
			t.Errorf("%s %s, want %q", unknown, got, want)
		}
	}
	for unknown, want := range map[string]string{
		"FHIR_CDC_NAM":            "did you mean FHIR_CDC_NAME?",
		"FHIR_CDC_TYPO":           "lists all",
		"FHIR_CDC_KAFKA_NOPE":     "lists all",
		"FHIR_CDC_FOO_ENABLED":    "lists all",
		"FHIR_CDC_BROKERS":        "did you mean FHIR_CDC_KAFKA_BROKERS?",
		"FHIR_CDC_KAFKA_URLS":     "did you mean FHIR_CDC_KAFKA_BROKERS?",
		"FHIR_CDC_HTTP_ADDDRESS":  "did you mean FHIR_CDC_HTTP_ADDRESS?",
		"FHIR_CDC_CONFIG_FILE":    "did you mean FHIR_CDC_CONFIG?",
		"FHIR_CDC_MONGODB_URI_FI": "did you mean FHIR_CDC_MONGODB_URI",
	} {
		var all settings
		all.readOwn(environ{unknown: "x"})
		faults := all.faults
		if len(faults) != 1 || !strings.Contains(faults[0].Message, want) {
			t.Errorf("%s: %v, want %q", unknown, faults, want)
		}
	}
}

func ExampleError() {
	fmt.Println(&Error{Faults: []Fault{
		{Key: "kafka.linger", Origin: "config.yaml:12", Message: `"5" has no unit: write a unit, such as 5s or 5ms`},
		{Origin: "FHIR_CDC_NAM", Message: "is not a variable of fhir-cdc; did you mean FHIR_CDC_NAME?"},
	}})
	// Output:
	// invalid configuration (2 faults):
	//   kafka.linger (config.yaml:12): "5" has no unit: write a unit, such as 5s or 5ms
	//   FHIR_CDC_NAM: is not a variable of fhir-cdc; did you mean FHIR_CDC_NAME?
}

func TestStart(t *testing.T) {
	tests := []struct {
		start Start
		want  time.Time
		named bool
		fails bool
	}{
		{StartNow, time.Time{}, false, false},
		{StartOldest, time.Time{}, false, false},
		{"2026-11-23T10:00:00+01:00", time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), true, false},
		{"2026-11-23", time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), true, false},
		{"tomorrow", time.Time{}, false, true},
		{"-2h", time.Time{}, false, true},
	}
	for start, ago := range map[Start]time.Duration{"2h": 2 * time.Hour, "3d": 72 * time.Hour} {
		before := time.Now()
		at, named, err := start.Time()
		if err != nil || !named || at.Before(before.Add(-ago)) || at.After(time.Now().Add(-ago)) {
			t.Errorf("%s is %v, %v, %v", start, at, named, err)
		}
	}
	for _, test := range tests {
		got, named, err := test.start.Time()
		if !got.Equal(test.want) || named != test.named || (err != nil) != test.fails {
			t.Errorf("%s is %v, %v, %v", test.start, got, named, err)
		}
	}
}
