package instance

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/held"
)

var update = flag.Bool("update", false, "write testdata/details.json anew")

// detailing is an installation on a broker of its own, with records in its topics.
func detailing(t *testing.T) (*detailer, *kfake.Cluster) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "fhir-cdc.positions", "fhir-cdc.audit", "fhir-cdc.dead-letters"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg, err := config.Load(config.LoadOptions{Environ: []string{
		"ENABLE_EVENTS_KAFKA=1", "KAFKA_URLS=" + strings.Join(cluster.ListenAddrs(), ","),
		"MONGO_URL=mongodb://user:the-password@127.0.0.1:1/?directConnection=true", "FHIR_CDC_HTTP_TOKEN=the-token-of-the-test",
	}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := installation.Open(cfg, io.Discard, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Clients.Disconnect(context.WithoutCancel(t.Context()), new(error)) })
	client, err := kgo.NewClient(in.Sink.Kafka...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	record := func(action publisher.AuditAction, minutes int, members map[string]any) *kgo.Record {
		r, err := publisher.AuditRecord{Time: noon.Add(time.Duration(minutes) * time.Minute), Name: cfg.Name, Action: action, Actor: "me", Details: members}.Kafka(cfg.Topics.Audit)
		if err != nil {
			t.Fatal(err)
		}
		return &r
	}
	letter := func(id string) *kgo.Record {
		return &kgo.Record{Topic: cfg.Topics.DeadLetters, Key: []byte("fhir.Consent_4_0_0/" + id), Value: []byte(
			`{"kind":"change","namespace":"fhir.Consent_4_0_0","operation":"insert","documentKey":{"_id":"` + id + `"},"reason":"id is missing","clusterTime":{"t":7,"i":1},"stream":"main"}`)}
	}
	for _, r := range []*kgo.Record{
		record(publisher.AuditBackfilled, 1, map[string]any{"state": "begun", "position": "backfill-1"}),
		record(publisher.AuditBackfilled, 2, map[string]any{"state": "done", "position": "backfill-1"}),
		record(publisher.AuditBackfilled, 3, map[string]any{"state": "begun", "position": "backfill-2"}),
		record(publisher.AuditReplayed, 4, map[string]any{
			"state": "interrupted", "ids": []string{"patient-7"}, "streams": []map[string]any{{"stream": "main", "changes": 3, "next": "826B03916700000004patient-7"}},
		}),
		record(publisher.AuditPositionSet, 5, map[string]any{"after": map[string]any{"token": "a token", "clusterTime": 7}}),
		record(publisher.AuditRetried, 6, map[string]any{"letters": []string{"0@1 7,1"}}),
		record(publisher.AuditControl, 7, map[string]any{"client": strings.Repeat("ä", 300)}),
		letter("patient-7"), letter("patient-8"), letter("patient-7"),
	} {
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	progress, err := bson.Marshal(bson.D{{Key: "collection", Value: "fhir.Consent_4_0_0"}, {Key: "scanned", Value: int64(40)}, {Key: "events", Value: int64(38)}, {Key: "deadLetters", Value: int64(2)}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := in.Sink.Store("backfill-2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Acquire(t.Context()); !errors.Is(err, resumetoken.ErrNone) {
		t.Fatal(err)
	}
	if err := errors.Join(store.Save(t.Context(), resumetoken.Position{Stream: "backfill-2", State: &resumetoken.State{Document: progress}}), store.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	shown := &processState{}
	shown.reached(in.Sink.Apart())
	return newDetailer(cfg, shown), cluster
}

// The JSON of the details is what docs/http.md says: dead letters and audit are those of the
// commands, the newest first.
func TestDetailsAsJSON(t *testing.T) {
	d, _ := detailing(t)
	all := d.show(t.Context(), true)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	all.Time, all.Events, all.Configuration = at, []daemon.Carried{{
		Stream: "main", Kind: "change", Action: daemon.Create, Namespace: "fhir.Consent_4_0_0", ResourceType: "Consent", Document: "c-1", ID: "e-1", Changed: at, Committed: at,
	}}, all.Configuration[:1]
	for i := range all.Letters {
		all.Letters[i].Stored = at
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	held.Equal(t, "testdata/details.json", append(text, '\n'), *update, "go test ./instance -run TestDetailsAsJSON -update")
}

// Documents have marks, and what names them otherwise is left out.
func TestDetailsHideIDs(t *testing.T) {
	d, _ := detailing(t)
	hidden, again := d.show(t.Context(), false), d.show(t.Context(), false)
	if hidden.Unread != "" || len(hidden.Letters) != 2 {
		t.Fatalf("dead letters %+v, %s", hidden.Letters, hidden.Unread)
	}
	first, second := hidden.Letters[0].Key, hidden.Letters[1].Key
	if !strings.HasPrefix(first, "fhir.Consent_4_0_0/#") || first == second || first != again.Letters[0].Key {
		t.Errorf("marks %q, %q and %q", first, second, again.Letters[0].Key)
	}
	var acts []string
	for _, a := range hidden.Audit {
		acts = append(acts, a.DetailText())
	}
	want := []string{
		"cut=client=" + strings.Repeat("ä", 196) + "…", `letters=["0@1 7,1"]`, `after={"clusterTime":7}`, `state=interrupted, streams=[{"changes":3,"stream":"main"}]`,
		"position=backfill-2, state=begun", "position=backfill-1, state=done", "position=backfill-1, state=begun",
	}
	if diff := cmp.Diff(want, acts); diff != "" {
		t.Errorf("audit, -want +got:\n%s", diff)
	}
	hidden.Events = []daemon.Carried{{Namespace: "fhir.Consent_4_0_0", Document: "patient-7", ID: "event-7"}}
	d.hideIDs(hidden)
	if e := hidden.Events[0]; e.Namespace+"/"+e.Document != first || e.ID != "" {
		t.Errorf("event %+v, its dead letter %s", e, first)
	}
	text, err := json.Marshal(hidden)
	if err != nil || strings.Contains(string(text), "patient-") || strings.Contains(string(text), "a token") || strings.Contains(string(text), "event-7") {
		t.Errorf("ids are shown: %s, %v", text, err)
	}
}

// Each value has its origin, and no secret is among them.
func TestDetailsShowTheConfiguration(t *testing.T) {
	d, _ := detailing(t)
	all := map[string]config.KeyOrigin{}
	for _, s := range d.show(t.Context(), true).Configuration {
		all[s.Key] = s
		if strings.Contains(s.Value, "the-password") || strings.Contains(s.Value, "the-token") {
			t.Errorf("%s shows a secret: %s", s.Key, s.Value)
		}
	}
	for key, origin := range map[string]string{"http.token": "FHIR_CDC_HTTP_TOKEN", "mongodb.uri": "MONGO_URL", "batch.max_records": "default"} {
		if !strings.Contains(all[key].Origin, origin) {
			t.Errorf("%s is of %q, want %s, among %v", key, all[key].Origin, origin, slices.Sorted(maps.Keys(all)))
		}
	}
}

// While Kafka is away the rest is shown all the same, and Kafka is not asked for each request.
func TestDetailsWithoutKafka(t *testing.T) {
	d, cluster := detailing(t)
	cluster.Close()
	got := d.show(t.Context(), false)
	if got.Unread == "" || got.Events == nil || got.Letters == nil || got.Audit == nil || got.Backfills == nil || len(got.Configuration) == 0 {
		t.Errorf("%+v", got)
	}
	read := d.read
	if d.show(t.Context(), false); d.read != read {
		t.Error("the topics were asked for twice in a row")
	}
}
