package watcher_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/watcher"
	"go.uber.org/zap"
)

type gen struct{ name, ns, op, doc, change string }

func TestGenerate(t *testing.T) {
	raw, err := os.ReadFile("/tmp/E/cases.txt")
	if err != nil {
		t.Skip()
	}
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	client, err := mongo.Connect(options.Client().ApplyURI(m.URI))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	ctx := t.Context()
	cfg := mapper.Config{Database: "fhir", Resources: []string{"Consent", "ExportStatus"}, ChangeTopic: "business.events", ExportTopic: "fhir.bulk_export.events", AccessedEverythingTopic: "fhir.operation.usage.events",
		AccessLogs: mapper.Namespace{Database: "access-logs", Collection: "access-logs"}, AuditEvents: mapper.Namespace{Database: "audit-event", Collection: "AuditEvent_4_0_0"}}
	n := 0
	for _, block := range strings.Split(string(raw), "\n---\n") {
		lines := strings.SplitN(strings.TrimSpace(block), "\n", 2)
		if len(lines) < 2 {
			continue
		}
		f := strings.Fields(lines[0]) // name db.coll op [deletes]
		name, ns, op := f[0], f[1], f[2]
		c := cfg
		pre := len(f) > 3 && f[3] == "pre"
		c.Deletes = pre || (len(f) > 3 && f[3] == "deletes")
		mp := mapper.New(c)
		db, coll, _ := strings.Cut(ns, ".")
		var docs []bson.Raw
		for _, d := range strings.Split(lines[1], "\n") {
			var r bson.D
			if err := bson.UnmarshalExtJSON([]byte(d), false, &r); err != nil {
				t.Fatal(name, err)
			}
			b, _ := bson.Marshal(r)
			docs = append(docs, b)
		}
		if err := client.Database(db).CreateCollection(ctx, coll, options.CreateCollection().SetChangeStreamPreAndPostImages(bson.D{{Key: "enabled", Value: pre}})); err != nil {
			t.Fatal(err)
		}
		spec := watcher.Spec{Project: mp.Projection(), PreImages: c.Deletes, Feeds: []watcher.Feed{{Database: db, Collection: coll, Operations: []string{"insert", "replace", "update", "delete"}}}}
		w, err := watcher.New(client, watcher.Options{Name: "x", Spec: spec, BatchSize: 100, MaxAwait: time.Second, Limits: watcher.Limits{Records: 100, Bytes: 1 << 24}, MinBackoff: time.Second, MaxBackoff: time.Second}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		k := client.Database(db).Collection(coll)
		do := func(op string, doc bson.Raw) {
			var err error
			switch op {
			case "insert":
				_, err = k.InsertOne(ctx, doc)
			case "replace":
				_, err = k.ReplaceOne(ctx, bson.D{{Key: "_id", Value: docs[0].Lookup("_id")}}, doc)
			case "update", "updategone":
				_, err = k.UpdateOne(ctx, bson.D{{Key: "_id", Value: docs[0].Lookup("_id")}}, doc)
			case "delete":
				_, err = k.DeleteOne(ctx, bson.D{{Key: "_id", Value: docs[0].Lookup("_id")}})
			}
			if err != nil {
				t.Fatal(name, err)
			}
		}
		if op != "insert" {
			do("insert", docs[0])
		}
		tok, err := w.Begin(ctx, watcher.From{})
		if err != nil {
			t.Fatal(err)
		}
		do(op, docs[len(docs)-1])
		if op == "updategone" {
			do("delete", nil)
		}
		rctx, cancel := context.WithCancel(ctx)
		var got bson.Raw
		err = w.Run(rctx, watcher.From{Token: tok}, func(_ context.Context, c watcher.Chunk) error {
			if len(c.Changes) > 0 {
				got = c.Changes[0]
				cancel()
			}
			return nil
		})
		cancel()
		if err != nil {
			t.Fatal(name, err)
		}
		var d bson.D
		bson.Unmarshal(got, &d)
		n++
		for i := range d {
			switch d[i].Key {
			case "_id":
				d[i].Value = bson.D{{Key: "_data", Value: fmt.Sprintf("826B0391AE0000%04X2B022C0100296E5A1004E37F6A1C9A0F4A4E8C5B0C7B1E5D9A3746645F696400646B0391ADCF036C8E81FA%04X0004", n, n)}}
			case "clusterTime":
				d[i].Value = bson.Timestamp{T: 1795395966, I: uint32(n)}
			case "wallTime":
				d[i].Value = bson.DateTime(1795395966100)
			}
		}
		out, err := bson.MarshalExtJSONIndent(d, true, false, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("../mapper/testdata/"+name+".change.json", append(out, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		client.Database(db).Drop(ctx)
	}
}
