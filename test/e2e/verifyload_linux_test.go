package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// The command verify finds the few faults among many events in bounded memory. What a
// FHIR server and a daemon would have written goes straight into MongoDB and Kafka.
func TestVerifyLoad(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.verifyLoad(shared.client, 20_000)
}

// TestSoakVerifyTenMillion does it with ten million, or as many as
// FHIR_CDC_TEST_DOCUMENTS says.
func TestSoakVerifyTenMillion(t *testing.T) {
	documents := soakDocuments(t, 10_000_000)
	i, client := installOn(t, services.MongoDBForTest(t, services.MongoDBOptions{OplogMB: max(990, documents/1000)}))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	t.Cleanup(cancel)
	i.ctx = ctx
	i.verifyLoad(client, documents)
}

func (i *installation) verifyLoad(client *mongo.Client, documents int) {
	t := i.t
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	harness.Build(t, "")                            // not in the time that is measured
	i.with("FHIR_CDC_REPAIR_CLOCK_TOLERANCE", "1s") // a set that is younger than it tells of less
	random := rand.New(rand.NewPCG(seed, 0))
	i.check(i.site.CreateTopics(i.ctx, harness.Admin(t, i.site.Brokers), 6))
	l := &load{
		i: i, documents: documents, collection: client.Database(i.site.Databases.Main).Collection("Consent_4_0_0"),
		at: time.UnixMilli(time.Now().UnixMilli()), missing: map[int]bool{}, again: map[int]bool{},
	}
	for range 20 {
		l.missing[random.IntN(documents)] = true
	}
	for range 10 {
		if n := random.IntN(documents); !l.missing[n] {
			l.again[n] = true
		}
	}
	since := l.at.Add(-time.Second).UTC().Format(time.RFC3339)
	began := time.Now()
	l.write()
	written := time.Now()
	t.Logf("%d documents and records written in %v", documents, written.Sub(began).Round(time.Millisecond))
	i.eventually("all of it lies in the past by the second", func() bool { return time.Since(written) > 2*time.Second })

	began = time.Now()
	until := began.UTC().Format(time.RFC3339)
	v := harness.Start(t, harness.Options{Env: i.env, Command: []string{
		"verify", "--since", since, "--until", until, "--output", "json", "--limit", "1000", "--temp-dir", t.TempDir(),
	}})
	peak := i.peakUntil(v, func() bool { return false })
	code := i.wait(v)
	took := time.Since(began)
	var result verified
	i.check(json.Unmarshal([]byte(v.Stdout()), &result))
	topic := result.Topics[slices.IndexFunc(result.Topics, func(c verifiedTopic) bool { return c.Topic == i.site.Topics.Change })]
	if code != exitFailure || result.Clean || topic.Expected != documents || topic.Records != documents-len(l.missing)+len(l.again)+1 {
		t.Errorf("verify: exit code %d\n%s%s", code, v.Stdout(), v.Logs())
	}
	if topic.Missing != len(l.missing) || topic.Duplicated != len(l.again) || topic.Unexpected != 1 || topic.OutOfOrder+topic.Unseen != 0 {
		t.Errorf("of %d missing, %d repeated and 1 foreign: %+v", len(l.missing), len(l.again), topic)
	}
	if diff := cmp.Diff(l.ids(l.missing), idsOf(result.Missing, func(m struct{ ID, Topic string }) string { return m.ID })); diff != "" {
		t.Errorf("missing (-left out +found):\n%s", diff)
	}
	t.Logf("verify: %d events and their records in %v (%.0f/s), peak memory %d MiB", documents, took.Round(time.Millisecond), float64(documents)/took.Seconds(), peak)
	if peak > verifyPeak {
		t.Errorf("verify took %d MiB, the limit is %d", peak, verifyPeak)
	}
}

// load is many Consents of one version each and their change events, each the smallest
// that both are read as.
type load struct {
	i          *installation
	documents  int
	collection *mongo.Collection
	// at is the versions' meta.lastUpdated.
	at time.Time
	// missing of them have no record, again of them two.
	missing, again map[int]bool
}

// uuid and id are those of the nth Consent; all are of one length.
func (*load) uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }
func (*load) id(n int) string   { return fmt.Sprintf("con-%012x", n) }

func (l *load) eventID(n int) string {
	return harness.ChangeID(l.i.site.Databases.Main+"."+l.collection.Name(), l.uuid(n), "1", l.at)
}

func (l *load) ids(of map[int]bool) (ids []string) {
	for n := range of {
		ids = append(ids, l.eventID(n))
	}
	slices.Sort(ids)
	return ids
}

// write writes all at once.
func (l *load) write() {
	l.i.t.Helper()
	g, ctx := errgroup.WithContext(l.i.ctx)
	const writers = 2
	for w := range writers {
		g.Go(func() error { return l.insert(ctx, l.documents*w/writers, l.documents*(w+1)/writers) })
	}
	g.Go(func() error { return l.produce(ctx) })
	l.i.check(g.Wait())
}

// insert writes the Consents from one number up to another, as copies of one document.
func (l *load) insert(ctx context.Context, from, to int) error {
	document, err := bson.Marshal(bson.D{
		{Key: "_id", Value: bson.ObjectID{}},
		{Key: "_uuid", Value: l.uuid(0)},
		{Key: "id", Value: l.id(0)},
		{Key: "meta", Value: bson.D{{Key: "versionId", Value: "1"}, {Key: "lastUpdated", Value: l.at}}},
		{Key: "resourceType", Value: "Consent"},
	})
	if err != nil {
		return err
	}
	oid, uuid, id := bytes.Index(document, []byte("_id\x00"))+4, bytes.Index(document, []byte(l.uuid(0))), bytes.Index(document, []byte(l.id(0)))
	const chunk = 5000
	for ; from < to; from += chunk {
		documents := make([]bson.Raw, 0, chunk)
		for n := from; n < min(from+chunk, to); n++ {
			d := bytes.Clone(document)
			key := bson.NewObjectID()
			copy(d[oid:], key[:])
			copy(d[uuid:], l.uuid(n))
			copy(d[id:], l.id(n))
			documents = append(documents, d)
		}
		if _, err := l.collection.InsertMany(ctx, documents, options.InsertMany().SetOrdered(false)); err != nil {
			return fmt.Errorf("write %d Consents: %w", len(documents), err)
		}
	}
	return nil
}

// produce writes the records, and a foreign one at the end.
func (l *load) produce(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(l.i.site.Brokers...), kgo.DefaultProduceTopic(l.i.site.Topics.Change), kgo.ProducerLinger(20*time.Millisecond),
		kgo.UnknownTopicRetries(-1)) // a new topic is not known at once
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// As long as a usual event.
	rest := `","type":{"code":"110100"}` + strings.Repeat(" ", 350) + "}"
	send := func(key, id string) {
		client.Produce(ctx, &kgo.Record{
			Key: []byte(key), Value: []byte(`{"resourceType":"AuditEvent","id":"` + id + rest),
			Headers: []kgo.RecordHeader{{Key: "b3", Value: []byte(id)}, {Key: "version", Value: []byte("R4")}},
		}, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(err)
			}
		})
	}
	for n := 0; n < l.documents && ctx.Err() == nil; n++ {
		if l.missing[n] {
			continue
		}
		send(l.id(n), l.eventID(n))
		if l.again[n] {
			send(l.id(n), l.eventID(n))
		}
	}
	send("foreign", uuid.NewString())
	if err := client.Flush(ctx); err != nil {
		return fmt.Errorf("produce: %w", context.Cause(ctx))
	}
	return context.Cause(ctx)
}
