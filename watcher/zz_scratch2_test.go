package watcher_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

func TestRec(t *testing.T) {
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	client, _ := mongo.Connect(options.Client().ApplyURI(m.URI))
	defer client.Disconnect(context.Background())
	ctx := t.Context()
	cfg := mapper.Config{Database: "fhir", Resources: []string{"Consent", "ExportStatus"}, ChangeTopic: "business.events", ExportTopic: "fhir.bulk_export.events", AccessedEverythingTopic: "fhir.operation.usage.events",
		AccessLogs: mapper.Namespace{Database: "access-logs", Collection: "access-logs"}, AuditEvents: mapper.Namespace{Database: "audit-event", Collection: "AuditEvent_4_0_0"}}
	mp := mapper.New(cfg)
	spec := watcher.Spec{Project: mp.Projection()}
	for _, f := range mp.Feeds() {
		spec.Feeds = append(spec.Feeds, watcher.Feed{Database: f.Namespace.Database, Collection: f.Namespace.Collection, Operations: f.Operations, Filter: f.Filter})
	}
	in, _ := os.ReadFile("/tmp/E/rec.jsonl")
	var out bytes.Buffer
	s := bufio.NewScanner(bytes.NewReader(in))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var d bson.D
		if err := bson.UnmarshalExtJSON(s.Bytes(), true, &d); err != nil {
			t.Fatal(err)
		}
		b, _ := bson.Marshal(d)
		stored := bson.Raw(b).Lookup("stored").Document()
		db, coll := stored.Lookup("ns", "db").StringValue(), stored.Lookup("ns", "coll").StringValue()
		k := client.Database(db).Collection(coll)
		full := stored.Lookup("fullDocument").Document()
		if stored.Lookup("operationType").StringValue() == "replace" {
			k.InsertOne(ctx, bson.D{{Key: "_id", Value: full.Lookup("_id")}})
		}
		w, _ := watcher.New(client, watcher.Options{Name: "x", Spec: spec, BatchSize: 100, MaxAwait: time.Second, Limits: watcher.Limits{Records: 100, Bytes: 1 << 24}, MinBackoff: time.Second, MaxBackoff: time.Second}, zap.NewNop())
		tok, err := w.Begin(ctx, watcher.From{})
		if err != nil {
			t.Fatal(err)
		}
		if stored.Lookup("operationType").StringValue() == "replace" {
			k.ReplaceOne(ctx, bson.D{{Key: "_id", Value: full.Lookup("_id")}}, full)
		} else {
			k.InsertOne(ctx, full)
		}
		rctx, cancel := context.WithCancel(ctx)
		var got bson.Raw
		w.Run(rctx, watcher.From{Token: tok}, func(_ context.Context, c watcher.Chunk) error {
			if len(c.Changes) > 0 {
				got = c.Changes[0]
				cancel()
			}
			return nil
		})
		cancel()
		var g bson.D
		bson.Unmarshal(got, &g)
		for i := range g {
			switch g[i].Key {
			case "_id", "clusterTime", "wallTime":
				g[i].Value = stored.Lookup(g[i].Key)
			}
		}
		var o bson.D
		for _, e := range d {
			o = append(o, e)
			if e.Key == "stored" {
				o = append(o, bson.E{Key: "change", Value: g})
			}
		}
		x, err := bson.MarshalExtJSON(o, true, false)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(x, '\n'))
		client.Database(db).Drop(ctx)
	}
	os.WriteFile("../mapper/testdata/recorded.jsonl", out.Bytes(), 0o644)
}
