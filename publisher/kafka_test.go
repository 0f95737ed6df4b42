package publisher

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

const (
	eventTopic = "business.events"
	deadTopic  = "fhir-cdc.dead-letters"
	posTopic   = "fhir-cdc.positions"
)

// fakeKafka is a broker in this process with the three topics.
func fakeKafka(t *testing.T) (*kfake.Cluster, []kgo.Opt) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, eventTopic), kfake.SeedTopics(1, deadTopic, posTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MetadataMinAge(20 * time.Millisecond)}
}

func plainClient(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newTransactional(t testing.TB, opts []kgo.Opt, instance string, change ...func(*resumetoken.KafkaOptions)) *Transactional {
	t.Helper()
	positions := resumetoken.KafkaOptions{
		ClientOptions: opts, Topic: posTopic, Name: "test", Stream: "main", Instance: instance, TransactionTimeout: 10 * time.Second,
	}
	for _, c := range change {
		c(&positions)
	}
	p, err := NewTransactional(positions, Options{Stream: "main", DeadLetters: deadTopic})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closePublisher(t, p) })
	return p
}

func closePublisher(t testing.TB, p interface{ Close(context.Context) error }) {
	t.Helper()
	if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func token(t testing.TB, data string) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func position(t testing.TB, clusterTime uint32) resumetoken.Position {
	t.Helper()
	return resumetoken.Position{
		Stream: "main", Token: token(t, fmt.Sprintf("82%08X00000001", clusterTime)), ClusterTime: bson.Timestamp{T: clusterTime, I: 1}, Fingerprint: "p",
	}
}

// batch is one of events with the given keys, before the position.
func batch(t testing.TB, clusterTime uint32, keys ...string) *Batch {
	t.Helper()
	b := &Batch{Position: position(t, clusterTime)}
	for _, key := range keys {
		b.Events = append(b.Events, mapper.Event{
			Kind: mapper.KindChange, Topic: eventTopic, ID: key, Key: []byte(key), Value: []byte(`{"id":"` + key + `"}`),
			Headers: []mapper.Header{{Key: "b3", Value: []byte("request-" + key)}, {Key: "version", Value: []byte("R4")}},
		})
	}
	return b
}

// committed are the records that a read_committed consumer sees of a topic.
func committed(t testing.TB, opts []kgo.Opt, topic string) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	admin := kadm.NewClient(plainClient(t, opts...))
	offsets, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := make(map[int32]int64)
	offsets.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	consumer := plainClient(t, append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s: %v; left %v", topic, err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
	}
	return records
}

func keys(records []*kgo.Record) map[string]int {
	n := make(map[string]int)
	for _, r := range records {
		n[string(r.Key)]++
	}
	return n
}
