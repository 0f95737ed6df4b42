package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

func accessLog(t *testing.T, n int, request string) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: token(n)},
		{Key: "operationType", Value: "insert"},
		{Key: "clusterTime", Value: bson.Timestamp{T: uint32(n), I: 1}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "logs"}, {Key: "coll", Value: "access"}}},
		{Key: "accessLog", Value: bson.D{
			{Key: "requestId", Value: request},
			{Key: "url", Value: "/4_0_0/Patient/p/$everything"},
			{Key: "method", Value: "GET"},
			{Key: "outcome", Value: "Success"},
			{Key: "scopes", Value: "patient/*.*"},
			{Key: "altId", Value: "person"},
			{Key: "timestamp", Value: bson.DateTime(1)},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type nobody struct{}

func (nobody) Find(context.Context, []string) (map[string]lookup.Person, error) { return nil, nil }
func (nobody) Changed(string, string, []string)                                 {}
func (nobody) Forget()                                                          {}

func TestARequestHasOneEventThroughRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		past := []bson.Raw{accessLog(t, 998, "a"), accessLog(t, 999, "b")}
		k := &kept{position: resumetoken.Position{Token: token(999), ClusterTime: bson.Timestamp{T: 999, I: 1}, Fingerprint: "f"}, failures: 1}
		history := &script{scanned: append(past, accessLog(t, 1000, "c"))}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{
			chunk(accessLog(t, 1000, "c"), accessLog(t, 1001, "a")), chunk(accessLog(t, 1002, "c"), accessLog(t, 1003, "d")),
		}}
		err := play(t, stream(s, history, k, func(o *Options, f *Facts) { o.SeenWindow, f.Persons = time.Minute, nobody{} }), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.ids(); len(got) != 2 || got[0] == got[1] {
			t.Errorf("events %v, want one for request c and one for d: a had its event before the start", got)
		}
	})
}
