package resumetoken

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// A leader that moves between the question who it is and the reading is looked for again.
func TestKafkaReadsFromALeaderThatMoves(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(1, positions), kfake.SeedTopics(1, events))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	opts := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MetadataMinAge(20 * time.Millisecond)}
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	mustSave(t, k, position(t, "main", 1000))

	topic, err := describeTopic(t.Context(), plainClient(t, opts...), positions)
	if err != nil {
		t.Fatal(err)
	}
	end, err := topic.committed(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for node := range int32(3) { // two of them are not the leader that was described
		if err := cluster.MoveTopicPartition(positions, 0, node); err != nil {
			t.Fatal(err)
		}
		if _, err := topic.lastBefore(t.Context(), 0, 0, end, k.TransactionalID()); err != nil {
			t.Errorf("after the leader has moved to node %d: %v", node, err)
		}
	}
}

// A quiet stream's position lies far behind a busy one's in the same partition;
// it is found backwards, without reading the whole partition.
func TestKafkaReadsBackInSteps(t *testing.T) {
	cluster, opts := fakeKafka(t, 1)
	client := plainClient(t, opts...)
	fill := func(n int) {
		records := make([]*kgo.Record, n)
		for i := range records {
			records[i] = &kgo.Record{Topic: positions, Key: []byte("busy"), Value: []byte("x")}
		}
		if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	fill(20000)
	k := newKafka(t, opts, "quiet", "one")
	mustBeNew(t, k)
	mustSave(t, k, position(t, "quiet", 1000))
	fill(3000)

	var mu sync.Mutex
	var asked []int64
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.(*kmsg.FetchRequest).Topics[0].Partitions[0].FetchOffset)
		return true
	}})
	if got := mustAcquire(t, k); got.ClusterTime.T != 1000 {
		t.Fatalf("the position is %v", got.ClusterTime)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) < 2 || asked[0] < 22500 {
		t.Errorf("fetches began at %v; want the first among the last %d offsets", asked, firstStep)
	}
	for _, offset := range asked {
		if offset < 10000 {
			t.Errorf("the old part of the partition was read, from offset %d", offset)
		}
	}
}

func TestKafkaHangingTransactionIsNamed(t *testing.T) {
	_, opts := fakeKafka(t, 1)
	hanging := plainClient(t, append(opts, kgo.TransactionalID("other"), kgo.TransactionTimeout(time.Minute))...)
	if err := hanging.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := hanging.ProduceSync(t.Context(), &kgo.Record{Topic: positions, Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	k := newKafka(t, opts, "main", "one")
	// The store's own transaction has all its time: only the limit is reached.
	k.opts.TransactionTimeout, k.hangMargin = time.Minute, 100*time.Millisecond-time.Minute
	_, err := k.Acquire(t.Context())
	if err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "topic positions, partition 0: a transaction at offset 0 has been open") {
		t.Errorf("Acquire: %v", err)
	}
	if err := hanging.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	k.hangMargin = time.Minute
	mustBeNew(t, k)
}

func TestKafkaFindsPositionAfterMorePartitions(t *testing.T) {
	_, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	mustSave(t, k, position(t, "main", 1000))
	const more = 8
	if partitionOf("test/main", more) == 0 {
		t.Fatal("choose another stream name: this one stays in its partition")
	}
	admin := kadm.NewClient(plainClient(t, opts...))
	if _, err := admin.UpdatePartitions(t.Context(), more, positions); err != nil {
		t.Fatal(err)
	}
	if got := mustAcquire(t, k); got.ClusterTime.T != 1000 {
		t.Errorf("the position is %v", got.ClusterTime)
	}
	mustSave(t, k, position(t, "main", 2000))
	if got := mustAcquire(t, newKafka(t, opts, "main", "two")); got.ClusterTime.T != 2000 {
		t.Errorf("the position is %v", got.ClusterTime)
	}
}

func TestKafkaKeepsTheFirstPositionOfEachHour(t *testing.T) {
	_, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	const hour, first = 3600, 1763886848 // 2025-11-23T08:34:08Z
	save := func(seconds int) { mustSave(t, k, position(t, "main", uint32(first+seconds))) }
	save(0)
	save(60)
	for h := 1; h <= 5; h++ {
		save(h * hour)
		save(h*hour + 1)
		mustAcquire(t, k) // the next process goes on with the same history
	}
	save(49*hour + 7) // after standing still for two days
	var got []int64
	history, err := newKafka(t, opts, "main", "reader").History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range history {
		got = append(got, int64(p.ClusterTime.T)-first)
	}
	if diff := cmp.Diff([]int64{2 * hour, 3 * hour, 4 * hour, 5 * hour, 49*hour + 7}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPartitionOfIsThatOfEveryKafkaClient(t *testing.T) {
	// murmur2 of the name, positive, over the number of partitions, as in the
	// Java client's Utils.toPositive(Utils.murmur2(key)) % n.
	for name, want := range map[string]int32{"21": int32(uint32(0x7fffffff&-973932308) % 8), "foobar": int32(uint32(0x7fffffff&-790332482) % 8)} {
		if got := partitionOf(name, 8); got != want {
			t.Errorf("partitionOf(%q, 8) = %d, want %d", name, got, want)
		}
	}
}

func TestHourOf(t *testing.T) {
	if !hourOf(bson.Timestamp{}).IsZero() {
		t.Error("no cluster time has an hour")
	}
	if got := hourOf(bson.Timestamp{T: 7261}).Format(time.RFC3339); got != "1970-01-01T02:00:00Z" {
		t.Error(got)
	}
}
