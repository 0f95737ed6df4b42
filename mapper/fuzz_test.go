package mapper_test

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// FuzzRead takes any bytes as a change, seeded with all golden ones: neither reading
// nor mapping panics, whatever comes out holds its promises.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.change.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add([]byte(readChange(f, strings.TrimSuffix(filepath.Base(file), ".change.json"))), "")
	}
	f.Add([]byte(nil), "r")
	f.Fuzz(func(t *testing.T, raw []byte, requestID string) {
		check(t, raw, mapper.Facts{RequestID: requestID, BwellPersonID: requestID, ManagingOrganization: requestID})
	})
}

// FuzzAppend varies the fields that go into events and puts a marker next to them:
// it is nowhere in what comes out.
func FuzzAppend(f *testing.F) {
	f.Add("insert", "Consent_4_0_0", "con-1", "9778576a-8f48-5fe7-98a4-7c6664cdbf46", "1", int64(1795395965947), "proa", "accepted", uint8(0), "")
	f.Add("replace", "ExportStatus_4_0_0", "job", "job", "2", int64(1795396246670), "", "completed", uint8(1), "req-1")
	f.Add("update", "ExportStatus_4_0_0", "\"\\\x00\xff\u2028", "u", "3", int64(-1), "<&>", "in-progress", uint8(2), "\xff")
	f.Add("delete", "Consent_3_0_1", "con-1", "u", "3", int64(1)<<62, "", "", uint8(3), "r")
	f.Fuzz(func(t *testing.T, operation, collection, id, uuid, versionID string, at int64, sourceType, status string, shape uint8, requestID string) {
		const marker = "Marvolo-7f3a"
		for _, s := range []string{operation, collection, id, uuid, versionID, sourceType, status, requestID} {
			if strings.Contains(s, marker) || strings.Contains(collection, "\x00") {
				t.Skip("the input has the marker itself, or no collection can be of this name")
			}
		}
		version := bson.D{{Key: "versionId", Value: versionID}, {Key: "lastUpdated", Value: bson.DateTime(at)}, {Key: "other", Value: marker}}
		document := bson.D{{Key: "name", Value: marker}, {Key: "_uuid", Value: uuid}, {Key: "id", Value: id}, {Key: "meta", Value: version}}
		strange := []any{marker, bson.A{marker}, bson.D{{Key: "x", Value: marker}}, bson.Symbol(marker)}[shape%4]
		if shape&4 != 0 {
			document[1].Value = strange
		}
		if shape&8 != 0 {
			document[2].Value = strange
		}
		export := bson.D{{Key: "status", Value: status}, {Key: "user", Value: marker}}
		if shape&16 != 0 {
			export = append(export, bson.E{Key: "request", Value: []any{7, bson.A{marker}, bson.D{}, bson.Symbol(marker)}[shape%4]})
		}
		raw, err := bson.Marshal(bson.D{
			{Key: "_id", Value: bson.D{{Key: "_data", Value: "82"}}},
			{Key: "operationType", Value: operation},
			{Key: "wallTime", Value: bson.DateTime(at)},
			{Key: "fullDocument", Value: document},
			{Key: "fullDocumentBeforeChange", Value: document},
			{Key: "updated", Value: version},
			{Key: "updateDescription", Value: bson.D{{Key: "name", Value: marker}}},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: collection}}},
			{Key: "sourceType", Value: sourceType},
			{Key: "export", Value: export},
		})
		if err != nil {
			t.Skip("no document can hold this, such as a key with a zero byte")
		}
		out := check(t, raw, mapper.Facts{RequestID: requestID})
		for _, e := range out.Events {
			for _, text := range [][]byte{e.Key, e.Value, []byte(e.ID), e.Headers[0].Value} {
				if document[2].Value != strange && strings.Contains(string(text), marker) {
					t.Errorf("a field that is not asked for is in %q", text)
				}
			}
		}
		for _, failure := range out.Failures {
			if strings.Contains(failure.Error(), marker) {
				t.Errorf("a document's contents in %q", failure.Error())
			}
		}
	})
}

// check maps raw in each profile and holds the outcome to what is promised of every change.
func check(t *testing.T, raw bson.Raw, facts mapper.Facts) (all mapper.Output) {
	t.Helper()
	for profile := range goldenFolders() {
		cfg := defaults()
		cfg.Deletes, cfg.Profiles = true, inProfile(profile)
		out := checkIn(t, cfg, raw, facts)
		all.Events, all.Failures = append(all.Events, out.Events...), append(all.Failures, out.Failures...)
	}
	return all
}

func checkIn(t *testing.T, cfg mapper.Config, raw bson.Raw, facts mapper.Facts) mapper.Output {
	t.Helper()
	m := mapper.New(cfg)
	var c mapper.Change
	m.Read(raw, &c)
	c.RequestedVersion()
	c.Access()
	c.Person()
	var out mapper.Output
	appendTo(t, m, &c, facts, &out)
	if !c.Routed() && len(out.Events)+len(out.Failures) > 0 {
		t.Error("events of an unknown namespace")
	}
	if len(out.Events)+len(out.Failures) > 2 {
		t.Errorf("%d events and %d failures of one change", len(out.Events), len(out.Failures))
	}
	for _, e := range out.Events {
		if !json.Valid(e.Value) || !utf8.Valid(e.Value) {
			t.Errorf("%s: value is no UTF-8 JSON: %q", e.Kind, e.Value)
		}
		if id, err := uuid.Parse(e.ID); err != nil || id.Version() != 5 || id.String() != e.ID {
			t.Errorf("%s: id %q", e.Kind, e.ID)
		}
		if len(e.Key) == 0 || e.Topic == "" || e.Size() < len(e.Value) {
			t.Errorf("%s: key %q, topic %q, size %d", e.Kind, e.Key, e.Topic, e.Size())
		}
		for _, h := range e.Headers {
			if !utf8.Valid(h.Value) && utf8.ValidString(facts.RequestID) {
				t.Errorf("%s: header %s is no UTF-8: %q", e.Kind, h.Key, h.Value)
			}
		}
	}
	for _, f := range out.Failures {
		if !slices.Contains(reasons(), f.Reason) {
			t.Errorf("unknown reason %q", f.Reason)
		}
	}
	if again := mapOne(t, cfg, raw, facts); !reflect.DeepEqual(out.Events, again.Events) || !reflect.DeepEqual(out.Failures, again.Failures) {
		t.Error("the second time it comes out differently")
	}
	return out
}
