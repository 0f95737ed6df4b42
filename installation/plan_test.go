package installation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// planned is a plan as text: name, slice, collections, kinds.
func planned(t *testing.T, streams string, more ...string) []string {
	t.Helper()
	c, err := config.Load(config.LoadOptions{Environ: append([]string{
		"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092", "AUDIT_EVENT_MONGO_DB_NAME=audit", "ACCESS_LOGS_MONGO_DB_NAME=access",
		"ENABLE_EVENTS_KAFKA=1", "ENABLE_BULK_EXPORT_KAFKA_EVENTS=1", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS=1",
		"KAFKA_ENABLED_RESOURCES=Consent,ExportStatus,Person", "FHIR_CDC_STREAMS=" + streams,
	}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, p := range Plan(c) {
		var feeds []string
		for _, f := range p.Feeds {
			if !strings.HasSuffix(f.Namespace.Collection, "_3_0_1") {
				feeds = append(feeds, fmt.Sprintf("%s%v", f.Namespace, f.Kinds))
			}
		}
		text = append(text, fmt.Sprintf("%s %d/%d %s: %s", p.Name, p.Slice.Index, p.Slice.Of, p.home, strings.Join(feeds, " ")))
	}
	return text
}

func TestPlanStreams(t *testing.T) {
	const (
		consent = "fhir.Consent_4_0_0[change]"
		export  = "fhir.ExportStatus_4_0_0[change export]"
		person  = "fhir.Person_4_0_0[change]"
		facts   = "fhir.Person_4_0_0[]"
		access  = "access.access-logs[accessed_everything] audit.AuditEvent_4_0_0[accessed_everything]"
	)
	for _, test := range []struct {
		name, streams string
		more, want    []string
	}{
		{"none", "", nil, []string{"main 0/0 main: " + access + " " + consent + " " + export + " " + person}},
		{"resources", "[{name: hot, resources: [Consent], slices: 2}]", nil, []string{
			"main 0/0 main: " + access + " " + export + " " + person, "hot-1-of-2 0/2 main: " + consent, "hot-2-of-2 1/2 main: " + consent,
		}},
		{"persons' changes and facts", "[{name: persons, resources: [Person]}]", nil, []string{
			"main 0/0 main: " + access + " " + consent + " " + export + " " + facts, "persons 0/0 main: " + person,
		}},
		{"databases", "[{name: usage, databases: [audit, access]}]", nil, []string{
			"main 0/0 main: " + consent + " " + export + " " + person, "usage 0/0 main: " + access + " " + facts,
		}},
		{"nothing left", "[{name: usage, databases: [audit, access]}, {name: rest, databases: [fhir], resources: [ExportStatus]}]", nil, []string{
			"usage 0/0 main: " + access + " " + facts, "rest 0/0 main: " + consent + " " + export + " " + person,
		}},
		{"compact events", "[{name: hot, resources: [Consent, Patient]}]", []string{"ENABLE_SSE_KAFKA_EVENTS=1", "SSE_ENABLED_RESOURCES=Patient,Consent,Goal"}, []string{
			"main 0/0 main: " + access + " " + export + " fhir.Goal_4_0_0[resource_change] " + person,
			"hot 0/0 main: fhir.Consent_4_0_0[change resource_change] fhir.Patient_4_0_0[resource_change]",
		}},
		{"clusters", "[{name: logs, databases: [access]}]", []string{"ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://other:27017"}, []string{
			"main 0/0 main: audit.AuditEvent_4_0_0[accessed_everything] " + consent + " " + export + " " + person,
			"logs 0/0 access-logs: access.access-logs[accessed_everything]",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, planned(t, test.streams, test.more...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Events of windows have a stream of their own, beside all groups, with a home of its own.
func TestPlanWindows(t *testing.T) {
	const groups = "[{name: rest, databases: [fhir]}]"
	more := []string{"ENABLE_PERSON_DATA_CHANGE_EVENTS=1", "ENABLE_EVENTS_KAFKA=0", "ENABLE_BULK_EXPORT_KAFKA_EVENTS=0"}
	for _, test := range []struct {
		name  string
		more  []string
		feeds int // those of the older FHIR version are shown as histories only
	}{
		{"histories on the same cluster", []string{"RESOURCE_HISTORY_MONGO_DB_NAME=history"}, 3 * 72},
		{"histories elsewhere", []string{"RESOURCE_HISTORY_MONGO_URL=mongodb://other:27017"}, 72},
	} {
		plan := planned(t, groups, slices.Concat(more, test.more)...)
		last := plan[slices.IndexFunc(plan, func(p string) bool { return strings.HasPrefix(p, "data-changes") })]
		if !strings.HasPrefix(last, "data-changes 0/0 data-changes: ") || strings.Count(last, "[person_data_change]") != test.feeds {
			t.Errorf("%s: %d feeds, want %d: %s", test.name, strings.Count(last, "[person_data_change]"), test.feeds, last)
		}
		for _, p := range plan {
			if !strings.HasPrefix(p, "data-changes") && strings.Contains(p, "data_change") {
				t.Errorf("%s: another stream has the kind too: %s", test.name, p)
			}
		}
	}
}

// Without groups nothing has changed: each stream has the whole mapper, so that its
// pipeline, and with it its tokens, stay what they were.
func TestPlanWithoutGroups(t *testing.T) {
	c, err := config.Load(config.LoadOptions{Environ: []string{
		"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092", "ENABLE_EVENTS_KAFKA=1", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS=1",
		"ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://other:27017", "ACCESS_LOGS_MONGO_DB_NAME=access",
	}})
	if err != nil {
		t.Fatal(err)
	}
	plan := Plan(c)
	var feeds []mapper.Feed
	for _, p := range plan {
		if diff := cmp.Diff(c.MapperConfig(), p.Mapper); diff != "" {
			t.Errorf("mapper of %s: -want +got:\n%s", p.Name, diff)
		}
		feeds = append(feeds, p.Feeds...)
	}
	if want := mapper.New(c.MapperConfig()).Feeds(); len(plan) != 2 || len(feeds) != len(want) {
		t.Errorf("%d streams with %d feeds, want 2 with %d", len(plan), len(feeds), len(want))
	}
	if !slices.ContainsFunc(plan, func(p PlannedStream) bool { return p.Name == config.StreamAccessLogs }) {
		t.Error("no stream of the other cluster")
	}
}

// A replay with a prefix writes to no live topic, whatever the kind.
func TestPrefixed(t *testing.T) {
	live := mapper.Config{Topics: map[mapper.Kind]string{}}
	for _, kind := range mapper.Kinds() {
		live.Topics[kind.Name] = kind.Topic
	}
	other := prefixed(live, "p.")
	for _, kind := range mapper.Kinds() {
		if got := other.Topics[kind.Name]; got != "p."+kind.Topic || live.Topics[kind.Name] != kind.Topic {
			t.Errorf("%s goes to %q with a prefix, and to %q without", kind.Name, got, live.Topics[kind.Name])
		}
	}
}
