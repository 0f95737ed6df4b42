package watcher_test

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// mapping is the mapper's configuration for the test's own databases.
func (d *deployment) mapping() mapper.Config {
	return mapper.Config{
		Database:    "fhir-" + d.name,
		Resources:   []string{"Consent", "ExportStatus"},
		Topics:      map[mapper.Kind]string{mapper.KindChange: "business.events", mapper.KindExport: "fhir.bulk_export.events", mapper.KindAccessedEverything: "fhir.operation.usage.events"},
		AccessLogs:  mapper.Namespace{Database: "access-logs-" + d.name, Collection: "access-logs"},
		AuditEvents: mapper.Namespace{Database: "audit-event-" + d.name, Collection: "AuditEvent_4_0_0"},
	}
}

// specOf is the stream that the daemon opens for a mapper.
func specOf(cfg mapper.Config) watcher.Spec {
	m := mapper.New(cfg)
	s := watcher.Spec{Project: m.Projection(), PreImages: cfg.Deletes}
	for _, f := range m.Feeds() {
		s.Feeds = append(s.Feeds, watcher.Feed{
			Database: f.Namespace.Database, Collection: f.Namespace.Collection, Filter: f.Filter,
		})
	}
	return s
}

// shown is a change as extended JSON, without what differs from run to run.
func shown(t *testing.T, d *deployment, raw bson.Raw) string {
	t.Helper()
	var change, kept bson.D
	if err := bson.Unmarshal(raw, &change); err != nil {
		t.Fatal(err)
	}
	for _, e := range change {
		switch e.Key {
		case "_id", "clusterTime", "wallTime":
		default:
			kept = append(kept, e)
		}
	}
	text, err := bson.MarshalExtJSONIndent(kept, true, false, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "-"+d.name, "")
}

// testProjectionOfRecordedChanges holds what the mapper's tests take for the server's
// answer to what a server answers.
func testProjectionOfRecordedChanges(t *testing.T, d *deployment) {
	f, err := os.Open("../mapper/testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	cfg := d.mapping()
	cfg.Topics[mapper.KindPersonLink] = "fhir.manual.person.linking.events"
	w := d.watcher(t, specOf(cfg))
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r struct {
			Name   string `bson:"name"`
			Change bson.Raw
			Stored struct {
				Operation    string   `bson:"operationType"`
				FullDocument bson.Raw `bson:"fullDocument"`
				DocumentKey  bson.Raw `bson:"documentKey"`
				NS           struct{ DB, Coll string }
			}
		}
		if err := bson.UnmarshalExtJSON(lines.Bytes(), true, &r); err != nil {
			t.Fatal(err)
		}
		c := d.database(t, r.Stored.NS.DB).Collection(r.Stored.NS.Coll)
		if r.Stored.Operation == "replace" {
			if _, err := c.UpdateOne(t.Context(), r.Stored.DocumentKey, bson.D{{Key: "$set", Value: bson.D{{Key: "old", Value: true}}}}, options.UpdateOne().SetUpsert(true)); err != nil {
				t.Fatal(err)
			}
		}
		from := begin(t, w)
		if r.Stored.Operation == "replace" {
			_, err = c.ReplaceOne(t.Context(), r.Stored.DocumentKey, r.Stored.FullDocument)
		} else {
			_, err = c.InsertOne(t.Context(), r.Stored.FullDocument)
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(shown(t, d, r.Change), shown(t, d, read(t, w, from, 1)[0])); diff != "" {
			t.Errorf("%s: in testdata -, from the server +:\n%s", r.Name, diff)
		}
	}
}

func consent(id string, more ...bson.E) bson.D {
	return append(bson.D{
		{Key: "_id", Value: id},
		{Key: "id", Value: id},
		{Key: "_uuid", Value: "uuid-" + id},
		{Key: "meta", Value: bson.D{
			{Key: "versionId", Value: "1"}, {Key: "lastUpdated", Value: bson.DateTime(1795395965947)}, {Key: "source", Value: "s"},
		}},
		{Key: "status", Value: "active"},
		{Key: "secret", Value: "Marvolo"},
	}, more...)
}

func set(fields ...bson.E) bson.D { return bson.D{{Key: "$set", Value: bson.D(fields)}} }

func testProjectionOfUpdates(t *testing.T, d *deployment) {
	later := bson.DateTime(1795395969677)
	meta := bson.D{{Key: "versionId", Value: "2"}, {Key: "lastUpdated", Value: later}, {Key: "source", Value: "s"}}
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	w := d.watcher(t, specOf(d.mapping()))
	for name, test := range map[string]struct {
		update any
		want   bson.D // the field updated
	}{
		"fields of meta": {
			set(bson.E{Key: "meta.versionId", Value: "2"}, bson.E{Key: "meta.lastUpdated", Value: later}, bson.E{Key: "status", Value: "inactive"}),
			bson.D{{Key: "versionId", Value: "2"}, {Key: "lastUpdated", Value: later}, {Key: "status", Value: "inactive"}},
		},
		"the whole of meta": {
			set(bson.E{Key: "meta", Value: meta}),
			bson.D{{Key: "versionId", Value: "2"}, {Key: "lastUpdated", Value: later}},
		},
		"a pipeline that sets fields": {
			mongo.Pipeline{set(bson.E{Key: "meta.versionId", Value: "2"}, bson.E{Key: "meta.lastUpdated", Value: later})},
			bson.D{{Key: "versionId", Value: "2"}, {Key: "lastUpdated", Value: later}},
		},
		"a pipeline that sets meta": {
			mongo.Pipeline{set(bson.E{Key: "meta", Value: meta}, bson.E{Key: "status", Value: "x"})},
			bson.D{{Key: "versionId", Value: "2"}, {Key: "lastUpdated", Value: later}, {Key: "status", Value: "x"}},
		},
		// As of a document that is inserted so: it has no version.
		"meta as an array": {
			set(bson.E{Key: "meta", Value: bson.A{meta}}, bson.E{Key: "status", Value: "x"}),
			bson.D{{Key: "status", Value: "x"}},
		},
		"neither version nor time": {
			set(bson.E{Key: "secret", Value: "Marvolo Gaunt"}),
			bson.D{},
		},
		"a field is taken away": {
			bson.D{{Key: "$unset", Value: bson.D{{Key: "meta.versionId", Value: ""}}}},
			bson.D{},
		},
		"a field of a name with dots": {
			mongo.Pipeline{bson.D{{Key: "$replaceWith", Value: bson.D{{Key: "$setField", Value: bson.D{
				{Key: "field", Value: "a.b"}, {Key: "input", Value: "$$ROOT"}, {Key: "value", Value: 1},
			}}}}}},
			bson.D{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			insert(t, c, consent(name))
			from := begin(t, w)
			if _, err := c.UpdateByID(t.Context(), name, test.update); err != nil {
				t.Fatal(err)
			}
			change := read(t, w, from, 1)[0]
			var got struct {
				Updated bson.D `bson:"updated"`
			}
			if err := bson.Unmarshal(change, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Updated); diff != "" {
				t.Error(diff)
			}
			if text := change.String(); strings.Contains(text, "Marvolo") || strings.Contains(text, "updateDescription") {
				t.Errorf("more than is asked for: %s", text)
			}
		})
	}
}

func testProjectionOfDeletes(t *testing.T, d *deployment) {
	cfg := d.mapping()
	cfg.Deletes = true
	db := d.database(t, "fhir")
	with := options.CreateCollection().SetChangeStreamPreAndPostImages(bson.D{{Key: "enabled", Value: true}})
	if err := db.CreateCollection(t.Context(), "Consent_4_0_0", with); err != nil {
		t.Fatal(err)
	}
	w := d.watcher(t, specOf(cfg))
	for coll, want := range map[string]int{"Consent_4_0_0": 1, "Consent_3_0_1": 0} {
		c := db.Collection(coll)
		insert(t, c, consent("con-1"))
		from := begin(t, w)
		if _, err := c.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: "con-1"}}); err != nil {
			t.Fatal(err)
		}
		m := mapper.New(cfg)
		var change mapper.Change
		var out mapper.Output
		raw := read(t, w, from, 1)[0]
		m.Read(raw, &change)
		m.Append(&change, mapper.Facts{}, &out)
		if len(out.Events) != want || len(out.Failures) != 1-want || strings.Contains(raw.String(), "Marvolo") {
			t.Errorf("%s: %d events, failures %v of %s", coll, len(out.Events), out.Failures, raw)
		}
	}
}

// testExtensionsOfAnyShape is about a stream that must not break: an expression of
// the projection that fails ends it for good.
func testExtensionsOfAnyShape(t *testing.T, d *deployment) {
	sourceType := bson.D{{Key: "url", Value: "https://www.icanbwell.com/sourceType"}, {Key: "valueString", Value: "proa"}}
	shapes := []struct {
		extension any
		want      string
	}{
		{bson.A{sourceType}, "proa"},
		{bson.A{"text", nil, 7, bson.A{sourceType}, bson.D{}, sourceType}, "proa"},
		{bson.A{bson.A{sourceType}}, ""},
		{bson.A{bson.D{{Key: "url", Value: bson.D{{Key: "$x", Value: 1}}}}}, ""},
		{bson.A{}, ""},
		{sourceType, ""},
		{"text", ""},
		{7, ""},
		{nil, ""},
		{bson.Regex{Pattern: "x"}, ""},
	}
	w := d.watcher(t, specOf(d.mapping()))
	from := begin(t, w)
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	for _, s := range shapes {
		insert(t, c, consent(bson.NewObjectID().Hex(), bson.E{Key: "extension", Value: s.extension}))
	}
	for i, raw := range read(t, w, from, len(shapes)) {
		if got, _ := raw.Lookup("sourceType").StringValueOK(); got != shapes[i].want {
			t.Errorf("%v: source type %q, want %q", shapes[i].extension, got, shapes[i].want)
		}
	}
}
