package mapper_test

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// consent makes changes of a Consent as the server sends them through the
// projection. Fields that are not set have the values of the golden consent-create.
type consent struct {
	operation, collection string
	id, uuid, versionID   string
	lastUpdated           int64
	token                 string
	extra                 bson.D // after the other fields
}

func (c consent) raw(t testing.TB) bson.Raw {
	t.Helper()
	or := func(s *string, otherwise string) {
		if *s == "" {
			*s = otherwise
		}
	}
	or(&c.operation, "insert")
	or(&c.collection, "Consent_4_0_0")
	or(&c.id, "con-1")
	or(&c.uuid, "9778576a-8f48-5fe7-98a4-7c6664cdbf46")
	or(&c.versionID, "1")
	or(&c.token, "826B03917D000000022B022C0100296E5A1004")
	if c.lastUpdated == 0 {
		c.lastUpdated = 1795395965947
	}
	version := bson.D{
		{Key: "versionId", Value: c.versionID},
		{Key: "lastUpdated", Value: bson.DateTime(c.lastUpdated)},
	}
	change := bson.D{
		{Key: "_id", Value: bson.D{{Key: "_data", Value: c.token}}},
		{Key: "operationType", Value: c.operation},
		{Key: "clusterTime", Value: bson.Timestamp{T: 1795395966, I: 1}},
		{Key: "wallTime", Value: bson.DateTime(1795395966100)},
		{Key: "fullDocument", Value: bson.D{{Key: "_uuid", Value: c.uuid}, {Key: "id", Value: c.id}, {Key: "meta", Value: version}}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: c.collection}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: bson.ObjectID{1, 2, 3}}}},
	}
	if c.operation == "update" {
		change = append(change, bson.E{Key: "updated", Value: version})
	}
	raw, err := bson.Marshal(append(change, c.extra...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// changed gives a change with some of its top-level fields replaced.
func changed(t testing.TB, raw bson.Raw, fields map[string]any) bson.Raw {
	t.Helper()
	var d bson.D
	if err := bson.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	for i := range d {
		if v, ok := fields[d[i].Key]; ok {
			d[i].Value = v
		}
	}
	out, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
