package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// installOn prepares an installation on a MongoDB of the test's own.
func installOn(t *testing.T, server *services.MongoDB) (*installation, *mongo.Client) {
	t.Helper()
	i := install(t, fhirserver.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI))
	i.check(err)
	t.Cleanup(func() { i.check(client.Disconnect(context.WithoutCancel(i.ctx))) })
	i.site = harness.NewSite(t, server.URI, shared.kafka.Brokers)
	i.env = i.site.Env()
	i.fhir = fhirserver.New(client, fhirserver.Options{Databases: i.site.Databases})
	return i, client
}

// forget writes until the oplog holds nothing that is older than a time.
func (i *installation) forget(client *mongo.Client, before time.Time) {
	i.t.Helper()
	document := bson.D{{Key: "filler", Value: strings.Repeat("x", 1<<20)}}
	oldest := options.FindOne().SetSort(bson.D{{Key: "$natural", Value: 1}}).SetProjection(bson.D{{Key: "ts", Value: 1}})
	i.eventually("the oplog has forgotten", func() bool {
		_, err := client.Database("filler").Collection("filler").InsertOne(i.ctx, document)
		i.check(err)
		raw, err := client.Database("local").Collection("oplog.rs").FindOne(i.ctx, bson.D{}, oldest).Raw()
		if lost := mongo.ServerError(nil); errors.As(err, &lost) && lost.HasErrorCode(136) {
			return false // CappedPositionLost: the oldest entry is being deleted
		}
		i.check(err)
		at, _, ok := raw.Lookup("ts").TimestampOK()
		return ok && int64(at) > before.Unix()+1
	})
}

// Beyond the oplog the collections and their history are asked: what is missing of
// what they hold is found and brought back byte for byte, and what they cannot tell is
// neither missing nor unexpected.
func TestVerifyBeforeTheOplog(t *testing.T) {
	// The oplog is cut off up to the last checkpoint only, which is every minute.
	server := services.MongoDBForTest(t, services.MongoDBOptions{OplogMB: 8, Args: []string{"--syncdelay", "1"}})
	i, client := installOn(t, server)
	i.withEveryKind().with("FHIR_CDC_FACTS_WAIT", slowMachine, "FHIR_CDC_REPAIR_CLOCK_TOLERANCE", "1s")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	reader := i.reader()
	ids := i.everyKind(50)
	i.until(reader, ids...)
	// A server that dies before it writes history: the first version is lost.
	forgetful := fhirserver.New(client, fhirserver.Options{Databases: i.site.Databases, HistoryDelay: fhirserver.NoHistory})
	first, err := forgetful.CreateConsent(i.ctx, "overwritten")
	i.check(err)
	second, err := forgetful.ReplaceConsent(i.ctx, first)
	i.check(err)
	// Two events of that version, and of five jobs those of the first two statuses, three each.
	const lost = 2 + 5*2*3
	// The request id of these is nowhere, and the daemon waits for it for longer than a stop
	// may take.
	i.check(d.Kill())
	i.with("FHIR_CDC_FACTS_WAIT", "")
	d = i.start()
	i.until(reader, append(ids, changeIDs(first, second)...)...)
	gap := time.Now()
	i.forget(client, gap)
	later := []fhirserver.Resource{}
	for n := range 10 {
		later = append(later, i.consent("later-"+string(rune('a'+n))))
	}
	i.until(reader, changeIDs(later...)...)
	i.stop(d)
	all, err := reader.End(i.ctx)
	i.check(err)
	live := slices.DeleteFunc(all, func(r harness.Record) bool { return r.Topic == i.site.Topics.DeadLetters })
	visible := len(live) - lost

	v := i.verify("--since", since)
	if n := v.sum(func(n int) int { return v.Topics[n].Expected }); !v.Clean || n != visible {
		t.Errorf("%d events are asked for, want %d: %+v", n, visible, v)
	}
	if n := v.sum(func(n int) int { return v.Topics[n].Unseen }); n != lost {
		t.Errorf("%d records are unseen, want %d: %+v", n, lost, v)
	}
	if notes := strings.Join(v.Notes, "\n"); !strings.Contains(notes, "the oplog begins at") || !strings.Contains(notes, "without history") {
		t.Errorf("the notes do not say what cannot be seen: %s", notes)
	}
	people := i.succeeds("verify", "--since", since)
	for _, text := range []string{"unseen", "told by the collections and their history only", "What cannot be seen", "CLEAN"} {
		if !strings.Contains(people, text) {
			t.Errorf("people are not told %q:\n%s", text, people)
		}
	}
	i.refused([]string{"the oplog does not reach back", "fhir-cdc backfill"}, "replay", "--from-time", since, "--same-topics")

	seen := i.told(since)
	dropped := map[string]bool{}
	for len(dropped) < 20 {
		if r := live[random.IntN(len(live))]; seen[r.EventID()] {
			dropped[r.Topic+r.EventID()] = true
		}
	}
	var kept, gone []harness.Record
	for _, r := range live {
		if dropped[r.Topic+r.EventID()] {
			gone = append(gone, r)
		} else {
			kept = append(kept, r)
		}
	}
	foreign := func(at time.Time) harness.Record {
		return harness.Record{Topic: i.site.Topics.Change, Key: harness.ForeignKey, Timestamp: at, Value: []byte(`{"resourceType":"AuditEvent","id":"` + uuid.NewString() + `"}`)}
	}
	i.copied("lacking.", kept, foreign(live[0].Timestamp))
	v = i.verify("--since", since)
	if diff := cmp.Diff(idsOf(gone, harness.Record.EventID), idsOf(v.Missing, func(m struct{ ID, Topic string }) string { return m.ID })); diff != "" {
		t.Errorf("missing (-dropped +found):\n%s", diff)
	}
	if n := v.sum(func(n int) int { return v.Topics[n].Unseen }); n != lost+1 {
		t.Errorf("%d records are unseen, want %d with the foreign one of that time", n, lost+1)
	}
	if v = i.verify("--since", since, "--repair"); !v.Clean || v.sum(func(n int) int { return v.Topics[n].Repaired }) != len(gone) {
		t.Errorf("the repair: %+v", v)
	}
	if v = i.verify("--since", since); !v.Clean {
		t.Errorf("after the repair: %+v", v)
	}
	repaired, err := harness.NewReader(t, i.site.Brokers, prefixed("lacking.", i.site.Topics.Events()...)...).End(i.ctx)
	i.check(err)
	repaired = slices.DeleteFunc(repaired, func(r harness.Record) bool { return r.Key == harness.ForeignKey })
	if diff := cmp.Diff(byID(live, ""), byID(repaired, "lacking.")); diff != "" {
		t.Errorf("the repaired topics differ from the live ones (-live +repaired):\n%s", diff)
	}
}

// told are the ids of the events that verify asks for: those that are missing when
// nothing is there.
func (i *installation) told(since string) map[string]bool {
	i.t.Helper()
	empty := i.of(i.t)
	empty.copied("empty.", nil)
	v := empty.verify("--since", since)
	all := map[string]bool{}
	for _, m := range v.Missing {
		all[m.ID] = true
	}
	return all
}

// What a topic's retention has deleted is not missing, and the notes say from when on
// was looked.
func TestVerifyRetention(t *testing.T) {
	i := install(t, fhirserver.Options{})
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	i.start()
	reader := i.reader()
	for n := range 3 {
		written, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: "con-" + string(rune('a'+n)), Keys: 100, Versions: 1, History: true})
		i.check(err)
		i.until(reader, changeIDs(written...)...)
		// The oplog counts in seconds.
		wrote := time.Now()
		i.eventually("the clock has moved on", func() bool { return time.Since(wrote) > 2*time.Second })
	}
	records, err := reader.End(i.ctx)
	i.check(err)
	i.awaitPosition(since, len(records))
	trimmed := map[int32]int64{} // the first half of each partition
	for _, r := range records {
		trimmed[r.Partition] = max(trimmed[r.Partition], r.Offset/2)
	}
	i.trim(i.site.Topics.Change, trimmed)
	left, err := harness.NewReader(t, i.site.Brokers, i.site.Topics.Change).End(i.ctx)
	i.check(err)
	if len(left) == len(records) || len(left) == 0 {
		t.Fatalf("%d of %d records are left", len(left), len(records))
	}
	v := i.verify("--since", since)
	if n := v.Topics[0].Expected; !v.Clean || n == 0 || n > len(left) {
		t.Errorf("%d events are asked for of %d records: %+v", n, len(left), v)
	}
	if notes := strings.Join(v.Notes, "\n"); !strings.Contains(notes, "does not reach back") {
		t.Errorf("the notes do not tell of the retention: %q", v.Notes)
	}
	// A replay puts back what has been deleted: with the same ids, so beside what is left.
	result := i.succeeds("replay", "--from-time", since, "--topic-prefix", "again.", "--output", "json")
	var replayed struct{ Streams []struct{ Events int } }
	i.check(json.Unmarshal([]byte(result), &replayed))
	if replayed.Streams[0].Events != len(records) {
		t.Errorf("a replay makes %d events, want %d", replayed.Streams[0].Events, len(records))
	}
	for partition := range trimmed {
		trimmed[partition] = -1 // all
	}
	i.trim(i.site.Topics.Change, trimmed)
	v = i.verify("--since", since)
	if notes := strings.Join(v.Notes, "\n"); v.Clean || !strings.Contains(notes, "what is missing may have been there") {
		t.Errorf("of an empty topic: %+v", v)
	}
}

// trim deletes the records of a topic before offsets, as its retention does.
func (i *installation) trim(topic string, before map[int32]int64) {
	i.t.Helper()
	offsets := kadm.Offsets{}
	for partition, at := range before {
		offsets.AddOffset(topic, partition, at, -1)
	}
	responses, err := harness.Admin(i.t, i.site.Brokers).DeleteRecords(i.ctx, offsets)
	i.check(err)
	i.check(responses.Error())
}
