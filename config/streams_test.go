package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func hotAndLogs() []StreamGroup {
	return []StreamGroup{
		{Name: "hot", Resources: []string{"Observation", "Consent"}, Slices: 4},
		{Name: "logs", Databases: []string{"audit", "access"}},
	}
}

const hotAndLogsJSON = `[{"name":"hot","resources":["Observation","Consent"],"slices":4},{"name":"logs","databases":["audit","access"]}]`

func streamsEnviron(more ...string) []string {
	return append([]string{
		"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092",
		"AUDIT_EVENT_MONGO_DB_NAME=audit", "ACCESS_LOGS_MONGO_DB_NAME=access",
		"ENABLE_EVENTS_KAFKA=1", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS=1",
		"KAFKA_ENABLED_RESOURCES=Consent,Observation,Patient",
	}, more...)
}

// A list of streams means the same in a file, in a variable and in a flag, and is
// printed in a form that can be read again.
func TestStreamsFromEveryOrigin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "streams:\n  - name: hot\n    resources: [Observation, Consent]\n    slices: 4\n  - name: logs\n    databases:\n      - audit\n      - access\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]LoadOptions{
		"file":          {File: file, Environ: streamsEnviron()},
		"variable":      {Environ: streamsEnviron("FHIR_CDC_STREAMS=" + hotAndLogsJSON)},
		"YAML variable": {Environ: streamsEnviron("FHIR_CDC_STREAMS=[{name: hot, resources: [Observation, Consent], slices: 4}, {name: logs, databases: [audit, access]}]")},
		"flag":          {Environ: streamsEnviron(), Set: []string{"streams=" + hotAndLogsJSON}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load(opts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(hotAndLogs(), c.Streams); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got := streamsText(c.Streams); got != hotAndLogsJSON {
				t.Errorf("as text %s", got)
			}
			printed, err := c.RedactedYAML()
			if err != nil {
				t.Fatal(err)
			}
			again := filepath.Join(t.TempDir(), "printed.yaml")
			if err := os.WriteFile(again, printed, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err = Load(LoadOptions{File: again, Environ: streamsEnviron()})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(hotAndLogs(), c.Streams); diff != "" {
				t.Errorf("printed and read again, -want +got:\n%s", diff)
			}
			if _, err := c.RedactedJSON(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStreamNames(t *testing.T) {
	for slices, want := range [][]string{{"a"}, {"a"}, {"a-1-of-2", "a-2-of-2"}} {
		if diff := cmp.Diff(want, StreamGroup{Name: "a", Slices: slices}.StreamNames()); diff != "" {
			t.Errorf("%d slices, -want +got:\n%s", slices, diff)
		}
	}
}

func TestWrongStreams(t *testing.T) {
	for _, test := range []struct{ streams, want string }{
		{`{name: hot}`, "is not a list of streams"},
		{`[hot]`, "where a stream with its keys belongs"},
		{`[{name: hot, resource: [Consent]}]`, "field resource is unknown"},
		{`[{name: hot, resources: [Consent], slices: many}]`, "is not a list of streams"},
		{`[{resources: [Consent]}]`, `the first stream needs a name`},
		{`[{name: "a b", resources: [Consent]}]`, "needs a name"},
		{`[{name: main, resources: [Consent]}]`, `the stream "main" has a name that belongs to fhir-cdc, as do main, audit-events, access-logs, data-changes, layout`},
		{`[{name: a, resources: [Consent]}, {name: a, resources: [Patient]}]`, `the stream "a" is there more than once`},
		{`[{name: a, resources: [Consent], slices: 2}, {name: a, resources: [Patient]}]`, `the stream "a" is there more than once`},
		{`[{name: a, resources: [Consent], slices: 2}, {name: a-2-of-2, resources: [Patient]}]`, `the stream "a-2-of-2" has the name of a slice of the stream "a"`},
		{`[{name: a-2-of-2, resources: [Patient]}, {name: a, resources: [Consent], slices: 2}]`, `the stream "a" has a slice "a-2-of-2", and another stream has that name`},
		{`[{name: hot}]`, "watches nothing"},
		{`[{name: hot, resources: [Consent], slices: 65}]`, "there can be 1 to 64"},
		{`[{name: hot, resources: [Conzent]}]`, `lists "Conzent", of which there are no events: add it to events.change.resources; now there are events of Consent, Observation, Patient`},
		{`[{name: hot, resources: [ExportStatus]}]`, `lists "ExportStatus"`},
		{`[{name: a, resources: [Consent]}, {name: b, resources: [Consent]}]`, "lists Consent, which another stream has"},
		{`[{name: a, databases: [other]}]`, `lists the database "other", where nothing is watched: there are fhir, audit, access`},
		{`[{name: a, databases: [audit, access]}, {name: b, databases: [audit, access]}]`, "lists the database audit, which another stream has"},
		{`[{name: a, databases: [audit]}]`, "must list both audit and access or none"},
		{`[{name: a, databases: [audit, access], slices: 2}]`, "must be in one stream"},
	} {
		_, err := Load(LoadOptions{Environ: streamsEnviron("FHIR_CDC_STREAMS=" + test.streams)})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.streams, err, test.want)
		}
	}
	_, err := Load(LoadOptions{Environ: streamsEnviron(
		"FHIR_CDC_STREAMS=[{name: a, resources: [Consent], databases: [access]}]", "ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://elsewhere:27017")})
	if err == nil || !strings.Contains(err.Error(), "different clusters") {
		t.Errorf("got %v, want that the clusters differ", err)
	}
}

// A fault in a file has its line.
func TestWrongStreamsInFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	for text, want := range map[string]string{
		"streams:\n  - name: hot\n    resource: [Consent]\n": `config.yaml:3): "resource" is unknown`,
		"streams:\n  - hot\n":                                "config.yaml:2): takes a list of streams",
		"streams:\n  - name: hot\n    slices: many\n":        "cannot unmarshal",
		"streams: hot\n":                                     "config.yaml:1): is not a list of streams",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(LoadOptions{File: file, Environ: streamsEnviron()})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
