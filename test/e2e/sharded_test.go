package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// On a sharded cluster, read through mongos, the changes of every shard come, each once and
// those of a key in their order, also over a daemon that is killed; and check is content.
func TestShardedCluster(t *testing.T) {
	cluster := services.ShardedForTest(t)
	i, client := installOn(t, cluster)
	i.with("FHIR_CDC_FACTS_WAIT", slowMachine, "FHIR_CDC_MONGODB_OPLOG_MIN_WINDOW", "0s")
	main, history := i.site.Databases.Main+".Consent_4_0_0", i.site.Databases.History+".Consent_4_0_0_History"
	// The FHIR server's replace names the _uuid. Before MongoDB 7.1 a shard key has to be named.
	i.shard(client, main, "_uuid")
	i.shard(client, history, "_id")

	d := i.start()
	reader := i.reader()
	w := shardedWriter{installation: i, order: map[string][]string{}}
	w.write()
	i.until(reader, w.ids...)
	w.write()
	i.check(d.Kill())
	w.write()
	d = i.start()
	w.write()

	records := i.exactly(reader, w.ids...)
	if diff := cmp.Diff(w.order, byKey(records)); diff != "" {
		t.Errorf("order of events of each key (-want +got):\n%s", diff)
	}
	for _, namespace := range []string{main, history} {
		if counts := i.documentsByShard(client, namespace); len(counts) != 2 {
			t.Errorf("%s has documents on %v, want two shards", namespace, counts)
		}
	}
	got := i.checks(0)
	if wrong := got.worse("error"); len(wrong) > 0 {
		t.Errorf("errors: %+v", wrong)
	}
	if f := got.about(t, "MongoDB main, history, audit events, access logs: server"); f.Level != "ok" || f.Found != "sharded cluster" {
		t.Errorf("%+v", f)
	}
	if f := got.about(t, "stream main: open"); f.Level != "ok" {
		t.Errorf("%+v", f)
	}
	i.stop(d)
}

// shardedWriter writes Consents and notes which events they have to become.
type shardedWriter struct {
	*installation
	written []fhirserver.Resource
	ids     []string
	order   map[string][]string // by key
}

// write creates some Consents and replaces all that there are. The hashes of so many spread
// them over the shards.
func (w *shardedWriter) write() {
	w.t.Helper()
	for range 10 {
		r := w.consent(fmt.Sprintf("consent-%d", len(w.written)))
		w.written = append(w.written, r)
		w.expect(r)
	}
	for n, r := range w.written {
		next, err := w.fhir.ReplaceConsent(w.ctx, r)
		w.check(err)
		w.written[n] = next
		w.expect(next)
	}
}

func (w *shardedWriter) expect(r fhirserver.Resource) {
	w.ids = append(w.ids, changeID(r))
	w.order[r.ID] = append(w.order[r.ID], changeID(r))
}

// shard spreads a collection over the shards by the hash of a field.
func (i *installation) shard(client *mongo.Client, namespace, field string) {
	i.t.Helper()
	i.check(client.Database("admin").RunCommand(i.ctx, bson.D{
		{Key: "shardCollection", Value: namespace},
		{Key: "key", Value: bson.D{{Key: field, Value: "hashed"}}},
	}).Err())
}

// documentsByShard counts a collection's documents on each shard that has any.
func (i *installation) documentsByShard(client *mongo.Client, namespace string) map[string]int64 {
	i.t.Helper()
	database, collection, _ := strings.Cut(namespace, ".")
	cursor, err := client.Database(database).Collection(collection).Aggregate(i.ctx, bson.A{
		bson.D{{Key: "$collStats", Value: bson.D{{Key: "count", Value: bson.D{}}}}},
		bson.D{{Key: "$match", Value: bson.D{{Key: "count", Value: bson.D{{Key: "$gt", Value: 0}}}}}},
	})
	i.check(err)
	var shards []struct {
		Shard string `bson:"shard"`
		Count int64  `bson:"count"`
	}
	i.check(cursor.All(i.ctx, &shards))
	counts := map[string]int64{}
	for _, s := range shards {
		counts[s.Shard] = s.Count
	}
	return counts
}
