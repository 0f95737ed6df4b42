package mapper_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/held"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// specOf is what is watched for a configuration where all databases are on one
// cluster.
func specOf(cfg mapper.Config) watcher.Spec {
	m := mapper.New(cfg)
	s := watcher.Spec{Project: m.Projection(), PreImages: cfg.Deletes || cfg.ResourceChange.Deletes}
	for _, f := range m.Feeds() {
		s.Feeds = append(s.Feeds, watcher.Feed{
			Database: f.Namespace.Database, Collection: f.Namespace.Collection, Filter: f.Filter,
		})
	}
	return s
}

// TestPipelineOfTheDefaults shows the whole pipeline that the server runs. If it
// changes, so do all fingerprints: every stream starts anew at its cluster time.
func TestPipelineOfTheDefaults(t *testing.T) {
	got, err := bson.MarshalExtJSONIndent(bson.D{{Key: "pipeline", Value: specOf(defaults()).Pipeline()}}, false, false, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	held.Equal(t, "testdata/pipeline.json", got, *update, "go test ./mapper -update")
}

func TestFingerprintIsOfWhatIsConfigured(t *testing.T) {
	fingerprint := func(configure func(*mapper.Config)) string {
		cfg := defaults()
		configure(&cfg)
		f, err := specOf(cfg).Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	want := fingerprint(func(*mapper.Config) {})
	for range 20 { // Maps are walked in another order each time.
		if got := fingerprint(func(c *mapper.Config) { c.Resources = []string{"ExportStatus", "Consent"} }); got != want {
			t.Fatal("the order of the resources is in the fingerprint")
		}
	}
	for name, same := range map[string]func(*mapper.Config){
		"a resource twice":     func(c *mapper.Config) { c.Resources = append(c.Resources, "Consent") },
		"AuditEvent, not sent": func(c *mapper.Config) { c.Resources = append(c.Resources, "AuditEvent") },
		"topics":               func(c *mapper.Config) { c.Topics[mapper.KindChange], c.Topics[mapper.KindExport] = "a", "b" },
		"compact events off":   func(c *mapper.Config) { c.Topics[mapper.KindResourceChange] = "" },
		"compact events off, though their types are chosen": func(c *mapper.Config) {
			withResourceChange(c)
			c.ResourceChange.Deletes = false // PreImages is the daemon's to say
			c.Topics[mapper.KindResourceChange] = ""
		},
	} {
		if fingerprint(same) != want {
			t.Errorf("%s: another fingerprint", name)
		}
	}
	seen := map[string]string{want: "the defaults"}
	for name, other := range map[string]func(*mapper.Config){
		"another resource":  func(c *mapper.Config) { c.Resources = append(c.Resources, "Patient") },
		"a resource less":   func(c *mapper.Config) { c.Resources = []string{"Consent"} },
		"deletes":           withDeletes,
		"change off":        func(c *mapper.Config) { c.Topics[mapper.KindChange] = "" },
		"export off":        func(c *mapper.Config) { c.Topics[mapper.KindExport] = "" },
		"everything off":    func(c *mapper.Config) { c.Topics[mapper.KindAccessedEverything] = "" },
		"another database":  func(c *mapper.Config) { c.Database = "fhir2" },
		"other access logs": func(c *mapper.Config) { c.AccessLogs.Collection = "access" },
		"one database":      auditEventsInMain,
		"compact events":    withResourceChange,
		"compact events without deletes": func(c *mapper.Config) {
			withResourceChange(c)
			c.ResourceChange.Deletes = false
		},
	} {
		got := fingerprint(other)
		if as, ok := seen[got]; ok {
			t.Errorf("%s has the fingerprint of %s", name, as)
		}
		seen[got] = name
	}
}

func TestFeeds(t *testing.T) {
	audit := mapper.Namespace{Database: "audit-event", Collection: "AuditEvent_4_0_0"}
	for _, c := range []struct {
		name      string
		configure func(*mapper.Config)
		want      []string // namespace: kinds
	}{
		{"defaults", func(*mapper.Config) {}, []string{
			"access-logs.access-logs: accessed_everything",
			audit.String() + ": accessed_everything",
			"fhir.Consent_3_0_1: change",
			"fhir.Consent_4_0_0: change",
			"fhir.ExportStatus_3_0_1: change",
			"fhir.ExportStatus_4_0_0: change export",
			"fhir.Person_4_0_0: ", // keeps facts fresh
		}},
		{"deletes", withDeletes, []string{
			"access-logs.access-logs: accessed_everything",
			audit.String() + ": accessed_everything",
			"fhir.Consent_3_0_1: change",
			"fhir.Consent_4_0_0: change",
			"fhir.ExportStatus_3_0_1: change",
			"fhir.ExportStatus_4_0_0: change export",
			"fhir.Person_4_0_0: ",
		}},
		{"change only", func(c *mapper.Config) { c.Topics[mapper.KindExport], c.Topics[mapper.KindAccessedEverything] = "", "" }, []string{
			"fhir.Consent_3_0_1: change",
			"fhir.Consent_4_0_0: change",
			"fhir.ExportStatus_3_0_1: change",
			"fhir.ExportStatus_4_0_0: change",
		}},
		{"export only", func(c *mapper.Config) { c.Topics[mapper.KindChange], c.Topics[mapper.KindAccessedEverything] = "", "" }, []string{
			"fhir.ExportStatus_4_0_0: export",
		}},
		{"AuditEvents in the main database and as a resource", func(c *mapper.Config) {
			c.Topics[mapper.KindExport] = ""
			auditEventsInMain(c)
		}, []string{
			"access-logs.access-logs: accessed_everything",
			"fhir.AuditEvent_4_0_0: accessed_everything",
			"fhir.Person_4_0_0: ",
		}},
		{"Person as a resource", func(c *mapper.Config) {
			c.Topics[mapper.KindExport] = ""
			c.Resources = []string{"Person"}
		}, []string{
			"access-logs.access-logs: accessed_everything",
			audit.String() + ": accessed_everything",
			"fhir.Person_3_0_1: change",
			"fhir.Person_4_0_0: change",
		}},
		{"compact events beside export events", func(c *mapper.Config) {
			c.Topics = map[mapper.Kind]string{mapper.KindExport: "e", mapper.KindResourceChange: "r"}
			c.ResourceChange = mapper.Choice{Resources: []string{"Patient", "ExportStatus", "AuditEvent"}, Deletes: true}
		}, []string{
			"fhir.ExportStatus_3_0_1: resource_change",
			"fhir.ExportStatus_4_0_0: export resource_change",
			"fhir.Patient_3_0_1: resource_change",
			"fhir.Patient_4_0_0: resource_change",
		}},
		{"nothing", func(c *mapper.Config) {
			c.Topics[mapper.KindChange], c.Topics[mapper.KindExport], c.Topics[mapper.KindAccessedEverything] = "", "", ""
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaults()
			maps.DeleteFunc(cfg.Topics, func(kind mapper.Kind, _ string) bool {
				return !slices.Contains([]mapper.Kind{mapper.KindChange, mapper.KindExport, mapper.KindAccessedEverything}, kind)
			})
			c.configure(&cfg)
			var got []string
			for _, f := range mapper.New(cfg).Feeds() {
				kinds := make([]string, len(f.Kinds))
				for i, k := range f.Kinds {
					kinds[i] = string(k)
				}
				got = append(got, f.Namespace.String()+": "+strings.Join(kinds, " "))
				if requests := f.Resource == ""; requests != (len(f.Filter) > 0) {
					t.Errorf("%s: filter %v", f.Namespace, f.Filter)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
