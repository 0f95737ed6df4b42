package resumetoken

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	positions = "positions"
	events    = "events"
)

// fakeKafka is a broker in this process with the two topics.
func fakeKafka(t *testing.T, positionPartitions int32) (*kfake.Cluster, []kgo.Opt) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(positionPartitions, positions), kfake.SeedTopics(3, events))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	// After a refused record the client waits for fresh metadata, by default 5 s.
	return cluster, []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MetadataMinAge(20 * time.Millisecond)}
}

func newKafka(t *testing.T, client []kgo.Opt, stream, instance string) *Kafka {
	t.Helper()
	k, err := NewKafka(KafkaOptions{
		ClientOptions: client, Topic: positions, Name: "test", Stream: stream, Instance: instance,
		TransactionTimeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	k.successorWait = 300 * time.Millisecond
	t.Cleanup(func() { closeStore(t, k) })
	return k
}

func plainClient(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// committed reads the values that a read_committed consumer sees of the event
// topic, once every transaction has ended.
func committed(t *testing.T, opts []kgo.Opt) []string {
	t.Helper()
	var values []string
	topic, err := describeTopic(t.Context(), plainClient(t, opts...), events)
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(topic.partitions()) {
		start, end, err := topic.stable(t.Context(), p, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if err := topic.read(t.Context(), p, start, end, func(r *kgo.Record) { values = append(values, string(r.Value)) }); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

func event(value string) []kgo.Record {
	return []kgo.Record{{Topic: events, Key: []byte("k"), Value: []byte(value)}}
}

func TestKafkaContract(t *testing.T) {
	_, opts := fakeKafka(t, 3)
	contract(t, func(t *testing.T, stream, instance string) Store {
		return newKafka(t, opts, stream, instance)
	})
}

// Two installations may share brokers and position topic.
func TestKafkaInstallationsAreApart(t *testing.T) {
	_, opts := fakeKafka(t, 1)
	one, other := newKafka(t, opts, "main", "one"), newKafka(t, opts, "main", "other")
	other.opts.Name = "other"
	mustBeNew(t, one)
	mustBeNew(t, other)
	mustSave(t, one, position(t, "main", 1000))
	mustSave(t, other, position(t, "main", 2000))
	if got := mustAcquire(t, one); got.ClusterTime.T != 1000 {
		t.Errorf("the position is %v", got.ClusterTime)
	}
	if stored, err := other.Inspect(t.Context()); err != nil || stored.Owner.Instance != "other" {
		t.Errorf("the owner is %+v, %v", stored.Owner, err)
	}
}

func TestKafkaOwnerWithoutAcquire(t *testing.T) {
	_, opts := fakeKafka(t, 2)
	watcher := newKafka(t, opts, "main", "watcher")
	if stored, err := watcher.Inspect(t.Context()); err != nil || stored.Owner != (Owner{}) {
		t.Errorf("the owner of a stream that nobody has had is %+v, %v", stored.Owner, err)
	}
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	if stored, err := watcher.Inspect(t.Context()); err != nil || stored.Owner.Instance != "one" {
		t.Fatalf("the owner is %+v, %v", stored.Owner, err)
	}
	mustSave(t, k, position(t, "main", 1000)) // looking has fenced nobody
}

func TestKafkaRefuses(t *testing.T) {
	_, opts := fakeKafka(t, 1)
	for _, tc := range []struct {
		name string
		opts KafkaOptions
		want string
	}{
		{"no topic", KafkaOptions{Name: "n", Stream: "s"}, "no topic"},
		{"no name", KafkaOptions{Topic: "t", Stream: "s"}, "installation name"},
		{"a name with a slash, which parts it from the stream's", KafkaOptions{Topic: "t", Name: "a/b", Stream: "s"}, "installation name"},
		{"a stream name that would look like a claim", KafkaOptions{Topic: "t", Name: "n", Stream: "s#owner"}, "stream name"},
		{"no stream name", KafkaOptions{Topic: "t", Name: "n"}, "stream name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := NewKafka(tc.opts); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("NewKafka: %v; want an error with %q", err, tc.want)
			}
		})
	}
	t.Run("a missing topic", func(t *testing.T) {
		k := newKafka(t, opts, "main", "one")
		k.opts.Topic = "missing"
		if _, err := k.Acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "topic missing does not exist") {
			t.Errorf("Acquire: %v", err)
		}
	})
	t.Run("a timeout that the brokers do not allow", func(t *testing.T) {
		k := newKafka(t, opts, "main", "one")
		k.opts.TransactionTimeout = 24 * time.Hour
		if _, err := k.Acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "transaction.max.timeout.ms") {
			t.Errorf("Acquire: %v", err)
		}
	})
	t.Run("a position that a newer program wrote", func(t *testing.T) {
		client := plainClient(t, opts...)
		r := &kgo.Record{Topic: positions, Key: []byte("test/newer"), Value: []byte(`{"v":5}`)}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		k := newKafka(t, opts, "newer", "one")
		if _, err := k.Acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("Acquire: %v", err)
		}
	})
}
