package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// TestEveryKind walks the table of kinds: the commands know each of
// them. mapper has a test of the same table for golden files and reading back, test/contract for
// the documentation.
func TestEveryKind(t *testing.T) {
	topics := map[string]mapper.Kind{}
	for _, kind := range mapper.Kinds() {
		if other, taken := topics[kind.Topic]; taken || kind.Topic == "" {
			t.Errorf("%s has the topic %q, as has %q", kind.Name, kind.Topic, other)
		}
		topics[kind.Topic] = kind.Name
		t.Run(string(kind.Name), func(t *testing.T) {
			everywhere(t, kind, kindAlone(t, kind))
		})
	}
}

// kindAlone is a configuration that the FHIR server's variables switch one kind on by.
func kindAlone(t *testing.T, kind mapper.Definition, more ...string) *config.Config {
	t.Helper()
	cfg, err := config.Load(config.LoadOptions{Environ: append([]string{
		"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092", "AUDIT_EVENT_MONGO_DB_NAME=audit", "ACCESS_LOGS_MONGO_DB_NAME=access",
		kind.EnableVariable + "=1", kind.TopicVariable + "=own",
		"FHIR_CDC_EVENTS_" + strings.ToUpper(string(kind.Name)) + "_ON_FAILURE=stop", "FHIR_CDC_FACTS_REQUEST_ID=false",
	}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	if on := cfg.Events.Enabled(); len(on) != 1 || on[0].Name != kind.Name || cfg.Events.Of(kind.Name).Topic != "own" {
		t.Fatalf("%s=1 and %s=own give %+v", kind.EnableVariable, kind.TopicVariable, cfg.Events)
	}
	return cfg
}

// everywhere looks for a kind wherever the commands deal with kinds.
func everywhere(t *testing.T, kind mapper.Definition, cfg *config.Config) {
	t.Helper()
	names := []mapper.Kind{kind.Name}
	if kind.Summary == "" || kind.EnableVariable == "" || kind.TopicVariable == "" {
		t.Errorf("an incomplete definition: %+v", kind)
	}
	if !installation.Stopping(cfg)[kind.Name] {
		t.Error("on_failure: stop does not stop")
	}
	if got := (&installation.Sink{Config: cfg}).Requirements("").Events; !slices.Equal(got, []string{"own"}) {
		t.Errorf("the topics that must be there are %q", got)
	}
	if got := topicsOf(cfg, "p.", nil); !slices.Equal(got["p.own"], names) || len(got) != 1 {
		t.Errorf("verify reads %v", got)
	}
	if got := tailTopics(cfg, "p.", names); !slices.Equal(got, []string{"p.own"}) {
		t.Errorf("tail reads %q", got)
	}
	if got, err := installation.KindsOf(cfg, []string{string(kind.Name)}); err != nil || !slices.Equal(got, names) {
		t.Errorf("--kinds reads %v, %v", got, err)
	}
	if narrow, err := (&backfillFlags{prefix: "p.", kinds: []string{string(kind.Name)}}).narrow(cfg); kind.Windowed {
		if err == nil || !strings.Contains(err.Error(), "fhir-cdc replay") {
			t.Errorf("backfill says %v", err)
		}
	} else if err != nil || narrow.Events.Of(kind.Name).Topic != "p.own" {
		t.Errorf("backfill writes to %+v, %v", narrow, err)
	}
	if section := cfg.Events.Chosen(kind); section != nil {
		chosen := section.Resources[:1]
		narrow, err := (&backfillFlags{resources: chosen}).narrow(cfg)
		if err != nil || !slices.Equal(narrow.Events.ResourcesOf(kind), chosen) {
			t.Errorf("backfill --resources %s leaves %+v, %v", chosen, narrow, err)
		}
	}
	groupOfItsOwn(t, kind, cfg)
	var events, collections int
	checked := map[string]bool{}
	for _, cluster := range mongoClustersOf(cfg) {
		for _, use := range cluster.uses {
			for _, of := range use.collections {
				for _, collection := range of {
					checked[use.database+"."+collection] = true
				}
			}
		}
	}
	for _, p := range installation.Plan(cfg) {
		for _, f := range p.Feeds {
			if slices.Contains(f.Kinds, kind.Name) {
				events++
				if f.Resource != "" && !kind.Windowed && !slices.Contains(cfg.Events.ResourcesOf(kind), f.Resource) {
					t.Errorf("--resources does not know %s", f.Resource)
				}
			}
			if !checked[f.Namespace.String()] {
				t.Errorf("check does not look at %s", f.Namespace)
			}
		}
		for _, c := range mapper.New(p.Mapper).Collections(mapper.History) {
			if history := cfg.MongoDB.HistoryCluster().Database + "." + c.StoredIn; !checked[history] {
				t.Errorf("check does not look at %s, which a repair reads", history)
			}
		}
		for _, c := range mapper.New(p.Mapper).Collections(mapper.Current) {
			if slices.Contains(c.Kinds, kind.Name) {
				collections++
			}
		}
	}
	if events == 0 || collections == 0 {
		t.Errorf("%d feeds of the streams and %d collections, of which check takes a sample, make events", events, collections)
	}
}

// groupOfItsOwn makes a group of streams of the databases that a kind reads.
func groupOfItsOwn(t *testing.T, kind mapper.Definition, cfg *config.Config) {
	t.Helper()
	var databases []string
	for _, n := range kind.Namespaces(cfg.MapperConfig()) {
		if !slices.Contains(databases, n.Database) {
			databases = append(databases, n.Database)
		}
	}
	grouped := kindAlone(t, kind, fmt.Sprintf("FHIR_CDC_STREAMS=[{name: own, databases: [%s]}]", strings.Join(databases, ",")))
	for _, p := range installation.Plan(grouped) {
		makes := slices.ContainsFunc(p.Feeds, func(f mapper.Feed) bool { return slices.Contains(f.Kinds, kind.Name) })
		if of := map[bool]string{false: "own", true: config.StreamDataChanges}[kind.Windowed]; makes != (p.Name == of) {
			t.Errorf("with a group of %q the stream %s reads %v", databases, p.Name, p.Feeds)
		}
	}
}

// A backfill of resource types publishes no change events of a type that only another kind has,
// and leaves no type out silently.
func TestBackfillOfResources(t *testing.T) {
	const change, compact = mapper.KindChange, mapper.KindResourceChange
	for _, test := range []struct {
		name  string
		flags backfillFlags
		on    string // the kinds and types that are left
		wrong string
	}{
		{name: "of compact events alone", flags: backfillFlags{resources: []string{"Patient"}}, on: "resource_change: [Patient]"},
		{name: "of change events alone", flags: backfillFlags{resources: []string{"Consent"}}, on: "change: [Consent]"},
		{name: "of no kind", flags: backfillFlags{resources: []string{"Practitioner"}}, on: "change: [Practitioner]"},
		{name: "of each", flags: backfillFlags{resources: []string{"Practitioner", "Patient", "Consent"}}, on: "change: [Practitioner Consent] resource_change: [Patient]"},
		{name: "change events that are asked for", flags: backfillFlags{kinds: []string{string(change)}, resources: []string{"Patient"}}, on: "change: [Patient]"},
		{name: "none for one type", flags: backfillFlags{kinds: []string{string(compact)}, resources: []string{"Patient", "Practitioner"}}, wrong: "--resources Practitioner"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, err := config.Load(config.LoadOptions{Environ: append(server(), "KAFKA_ENABLED_RESOURCES=Consent", "ENABLE_SSE_KAFKA_EVENTS=1", "SSE_ENABLED_RESOURCES=Patient,Observation")})
			if err != nil {
				t.Fatal(err)
			}
			narrow, err := test.flags.narrow(cfg)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("the error is %v, not of %s", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var on []string
			for _, kind := range narrow.Events.Enabled() {
				on = append(on, fmt.Sprintf("%s: %v", kind.Name, narrow.Events.ResourcesOf(kind)))
			}
			if got := strings.Join(on, " "); got != test.on {
				t.Errorf("it publishes %s, not %s", got, test.on)
			}
		})
	}
}

// A backfill in another profile is another one: it neither goes on where that of the seed's was
// broken off, nor is done because that is. A kind that is off has no part in it.
func TestBackfillOfAProfile(t *testing.T) {
	name := func(variables ...string) string {
		cfg, err := config.Load(config.LoadOptions{Environ: append(server(), variables...)})
		if err != nil {
			t.Fatal(err)
		}
		return (&backfillFlags{since: &flagvalue.Time{}, until: &flagvalue.Time{}}).name(cfg)
	}
	seed := name("FHIR_CDC_EVENTS_EXPORT_ENABLED=false")
	for variable, same := range map[string]bool{
		"FHIR_CDC_EVENTS_CHANGE_PROFILE=seed": true, "FHIR_CDC_EVENTS_EXPORT_PROFILE=strict": true, "FHIR_CDC_EVENTS_CHANGE_PROFILE=strict": false,
	} {
		if got := name("FHIR_CDC_EVENTS_EXPORT_ENABLED=false", variable); (got == seed) != same {
			t.Errorf("%s: the name is %s, of the seed's %s", variable, got, seed)
		}
	}
}
