package lookup

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func raw(t *testing.T, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadHistory(t *testing.T) {
	doc := func(uuid, version, updated, request any) bson.D {
		return bson.D{
			{Key: "resource", Value: bson.D{
				{Key: "_uuid", Value: uuid},
				{Key: "meta", Value: bson.D{{Key: "versionId", Value: version}, {Key: "lastUpdated", Value: updated}}},
			}},
			{Key: "request", Value: request},
		}
	}
	id := bson.D{{Key: "id", Value: "req"}}
	tests := []struct {
		name string
		doc  bson.D
		ok   bool
	}{
		{name: "as the server writes it", doc: doc("u", "1", bson.DateTime(5), id), ok: true},
		{name: "empty document", doc: bson.D{}},
		{name: "uuid is a number", doc: doc(1, "1", bson.DateTime(5), id)},
		{name: "version is a number", doc: doc("u", 1, bson.DateTime(5), id)},
		{name: "lastUpdated is text", doc: doc("u", "1", "2026-11-23", id)},
		{name: "no request (kept in object storage)", doc: doc("u", "1", bson.DateTime(5), nil)},
		{name: "request is text", doc: doc("u", "1", bson.DateTime(5), "req")},
		{name: "request id is null", doc: doc("u", "1", bson.DateTime(5), bson.D{{Key: "id", Value: nil}})},
		{name: "request id is empty", doc: doc("u", "1", bson.DateTime(5), bson.D{{Key: "id", Value: ""}})},
		{name: "resource is a list", doc: bson.D{{Key: "resource", Value: bson.A{1}}, {Key: "request", Value: id}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key, a, ok := readHistory(raw(t, tt.doc))
			if ok != tt.ok {
				t.Fatalf("ok = %v", ok)
			}
			if want := (versionKey{uuid: "u", versionID: "1", lastUpdated: 5}); ok && (key != want || a.RequestID != "req") {
				t.Errorf("got %+v, %q", key, a.RequestID)
			}
		})
	}
}

func TestTheFirstOfTwoHistoryDocumentsCounts(t *testing.T) {
	doc := func(id byte, request string) bson.Raw {
		return raw(t, bson.D{
			{Key: "_id", Value: bson.ObjectID{11: id}},
			{Key: "resource", Value: bson.D{
				{Key: "_uuid", Value: "u"},
				{Key: "meta", Value: bson.D{{Key: "versionId", Value: "1"}, {Key: "lastUpdated", Value: bson.DateTime(5)}}},
			}},
			{Key: "request", Value: bson.D{{Key: "id", Value: request}}},
		})
	}
	first, second := doc(1, "z"), doc(2, "a")
	for _, order := range [][]bson.Raw{{first, second}, {second, first}} {
		s := newSearch([]Version{{Collection: "c", UUID: "u", VersionID: "1", LastUpdated: time.UnixMilli(5)}})
		for _, d := range order {
			key, a, _ := readHistory(d)
			s.groups[0].add(key, a)
		}
		if got, _ := s.results(); got[0].RequestID != "z" {
			t.Errorf("got %+v", got)
		}
	}
}

// Of what a query by uuids and numbers matches only predecessors and deletes are kept, and of these
// no links.
func TestOnlyPredecessorsAreKept(t *testing.T) {
	doc := func(uuid, version, method string) bson.Raw {
		return raw(t, bson.D{
			{Key: "resource", Value: bson.D{
				{Key: "_uuid", Value: uuid},
				{Key: "meta", Value: bson.D{{Key: "versionId", Value: version}, {Key: "lastUpdated", Value: bson.DateTime(5)}}},
				{Key: "link", Value: bson.A{bson.D{{Key: "target", Value: bson.D{{Key: "reference", Value: "Patient/p"}}}}}},
			}},
			{Key: "request", Value: bson.D{{Key: "method", Value: method}}},
		})
	}
	wanted := predecessors{{uuid: "u", versionID: "1"}: true, {uuid: "v", versionID: "2"}: true}
	for _, tt := range []struct {
		uuid, version, method string
		kept, links           bool
	}{
		{"u", "1", "PUT", true, true},
		{"v", "2", "PUT", true, true},
		{"u", "2", "PUT", false, false},
		{"v", "1", "PUT", false, false},
		{"u", "3", "DELETE", true, false},
	} {
		if e, ok := wanted.read(doc(tt.uuid, tt.version, tt.method)); ok != tt.kept || (len(e.links) > 0) != tt.links {
			t.Errorf("%v: kept %v, links %v", tt, ok, e.links)
		}
	}
}
