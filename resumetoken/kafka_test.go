package resumetoken

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.mongodb.org/mongo-driver/v2/bson"
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

func TestKafkaCommitsBothOrNeither(t *testing.T) {
	cluster, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	if err := k.Commit(t.Context(), event("first"), position(t, "main", 1000)); err != nil {
		t.Fatal(err)
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: events, Err: kerr.TopicAuthorizationFailed})
	err := k.Commit(t.Context(), event("second"), position(t, "main", 2000))
	if !errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, ErrFenced) {
		t.Fatalf("Commit with a refused record: %v", err)
	}
	if err := k.Commit(t.Context(), event("third"), position(t, "main", 3000)); !errors.Is(err, errNotAcquired) {
		t.Fatalf("Commit after an error: %v; want a refusal until Acquire", err)
	}
	if got := mustAcquire(t, k); got.ClusterTime.T != 1000 {
		t.Errorf("after the failed transaction the position is %v", got.ClusterTime)
	}
	if err := k.Commit(t.Context(), event("second again"), position(t, "main", 2000)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first", "second again"}, committed(t, opts)); diff != "" {
		t.Error(diff)
	}
}

func TestKafkaPositionRefusedAbortsEvents(t *testing.T) {
	cluster, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: positions, Err: kerr.InvalidRecord})
	if err := k.Commit(t.Context(), event("first"), position(t, "main", 1000)); !errors.Is(err, kerr.InvalidRecord) {
		t.Fatalf("Commit: %v", err)
	}
	mustBeNew(t, k)
	if got := committed(t, opts); len(got) > 0 {
		t.Errorf("events without their position: %q", got)
	}
}

func TestKafkaZombieIsFenced(t *testing.T) {
	_, opts := fakeKafka(t, 2)
	zombie, successor := newKafka(t, opts, "main", "zombie"), newKafka(t, opts, "main", "successor")
	mustBeNew(t, zombie)
	mustBeNew(t, successor)
	err := zombie.Commit(t.Context(), event("from the dead"), position(t, "main", 1000))
	if !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), `"successor"`) {
		t.Errorf("the zombie's Commit: %v; want ErrFenced that names the successor", err)
	}
	if owner, err := zombie.Owner(t.Context()); err != nil || owner.Instance != "successor" {
		t.Errorf("Owner: %+v, %v", owner, err)
	}
	if err := successor.Commit(t.Context(), event("alive"), position(t, "main", 1000)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"alive"}, committed(t, opts)); diff != "" {
		t.Error(diff)
	}
}

func TestKafkaOwnerWithoutAcquire(t *testing.T) {
	_, opts := fakeKafka(t, 2)
	watcher := newKafka(t, opts, "main", "watcher")
	if _, err := watcher.Owner(t.Context()); !errors.Is(err, ErrNone) {
		t.Errorf("Owner of a stream that nobody has had: %v", err)
	}
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	owner, err := watcher.Owner(t.Context())
	if err != nil || owner.Instance != "one" {
		t.Fatalf("Owner: %+v, %v", owner, err)
	}
	mustSave(t, k, position(t, "main", 1000)) // looking has fenced nobody
}

// An epoch that was lost without a successor is the coordinator's doing, and the
// stream goes on after Acquire.
func TestKafkaTimedOutTransactionIsRecoverable(t *testing.T) {
	cluster, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	mustSave(t, k, position(t, "main", 1000))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.InvalidProducerEpoch})
	err := k.Commit(t.Context(), event("late"), position(t, "main", 2000))
	if err == nil || errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "nobody else owns the stream") {
		t.Fatalf("Commit: %v", err)
	}
	if got := mustAcquire(t, k); got.ClusterTime.T != 1000 {
		t.Errorf("the position is %v", got.ClusterTime)
	}
	mustSave(t, k, position(t, "main", 2000))
}

// The successor is seen even where its claim comes after the zombie has asked.
func TestKafkaSuccessorThatClaimsLate(t *testing.T) {
	cluster, opts := fakeKafka(t, 1)
	zombie, successor := newKafka(t, opts, "main", "zombie"), newKafka(t, opts, "main", "successor")
	zombie.successorWait = time.Minute
	mustBeNew(t, zombie)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ProducerFenced})
	result := make(chan error, 1)
	looked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
	go func() { result <- zombie.Commit(context.WithoutCancel(t.Context()), nil, position(t, "main", 1000)) }()
	if err := looked.Wait(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	mustBeNew(t, successor)
	if err := <-result; !errors.Is(err, ErrFenced) {
		t.Errorf("the zombie's Commit: %v; want ErrFenced", err)
	}
}

// Whether a commit took place whose answer was lost is told by the position.
func TestKafkaUnknownOutcome(t *testing.T) {
	for _, tc := range []struct {
		name     string
		applied  bool
		position uint32
		values   []string
	}{
		{"the answer is lost", true, 2000, []string{"once"}},
		{"the request is lost", false, 1000, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, opts := fakeKafka(t, 1)
			breaker := &breaker{pass: tc.applied}
			k := newKafka(t, append(opts, kgo.Dialer(breaker.dial), kgo.RequestRetries(0)), "main", "one")
			mustBeNew(t, k)
			mustSave(t, k, position(t, "main", 1000))
			breaker.armed.Store(true)
			err := k.Commit(t.Context(), event("once"), position(t, "main", 2000))
			if err == nil || !strings.Contains(err.Error(), "not known") {
				t.Fatalf("Commit: %v", err)
			}
			breaker.armed.Store(false)
			if got := mustAcquire(t, k); got.ClusterTime.T != tc.position {
				t.Errorf("the position is %v, want %d", got.ClusterTime, tc.position)
			}
			if diff := cmp.Diff(tc.values, committed(t, opts)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// breaker makes connections that break at a request to end a transaction, while
// it is armed: after the broker has answered it (pass), or before it gets it.
type breaker struct {
	pass  bool
	armed atomic.Bool
}

func (b *breaker) dial(ctx context.Context, network, host string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
	if err != nil {
		return nil, err
	}
	return &breakingConn{Conn: conn, breaker: b}, nil
}

type breakingConn struct {
	net.Conn
	breaker *breaker
	broken  atomic.Bool
}

// Write sees whole requests: length, then the API's key.
func (c *breakingConn) Write(request []byte) (int, error) {
	if c.breaker.armed.Load() && len(request) > 6 && binary.BigEndian.Uint16(request[4:]) == uint16(kmsg.EndTxn) {
		c.broken.Store(true)
		if !c.breaker.pass {
			return 0, errors.New("the connection breaks")
		}
	}
	return c.Conn.Write(request)
}

func (c *breakingConn) Read(answer []byte) (int, error) {
	n, err := c.Conn.Read(answer)
	if c.broken.Load() {
		return 0, errors.New("the connection breaks")
	}
	return n, err
}

func TestKafkaCancelledCommitLeavesNothing(t *testing.T) {
	cluster, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: events, Err: kerr.NotEnoughReplicas, Count: -1})
	go func() {
		_ = refused.Wait(ctx, 2)
		cancel()
	}()
	if err := k.Commit(ctx, event("first"), position(t, "main", 1000)); !errors.Is(err, context.Canceled) {
		t.Fatalf("Commit: %v; want context.Canceled", err)
	}
	refused.Remove()
	mustBeNew(t, k)
	if got := committed(t, opts); len(got) > 0 {
		t.Errorf("committed: %q", got)
	}
}

func TestKafkaObservesEachPoint(t *testing.T) {
	_, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	var seen []string
	k.opts.Observe = func(point string) { seen = append(seen, point) }
	mustBeNew(t, k)
	if err := k.Commit(t.Context(), event("e"), position(t, "main", 1000)); err != nil {
		t.Fatal(err)
	}
	want := []string{"before_begin", "after_begin", "after_produce", "after_position", "after_flush", "before_commit", "after_commit"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
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
	k.opts.TransactionTimeout, k.hangMargin = 100*time.Millisecond, 100*time.Millisecond
	_, err := k.Acquire(t.Context())
	if err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "topic positions, partition 0: a transaction at offset 0 has been open") {
		t.Errorf("Acquire: %v", err)
	}
	if err := hanging.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	k.opts.TransactionTimeout, k.hangMargin = time.Minute, time.Minute
	mustBeNew(t, k)
}

func TestKafkaFindsPositionAfterMorePartitions(t *testing.T) {
	_, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	mustSave(t, k, position(t, "main", 1000))
	const more = 8
	if PartitionOf("main", more) == 0 {
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

func TestKafkaRefuses(t *testing.T) {
	_, opts := fakeKafka(t, 1)
	for _, tc := range []struct {
		name string
		opts KafkaOptions
		want string
	}{
		{"no topic", KafkaOptions{Name: "n", Stream: "s"}, "no topic"},
		{"no name", KafkaOptions{Topic: "t", Stream: "s"}, "no installation name"},
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
		r := &kgo.Record{Topic: positions, Key: []byte("newer"), Value: []byte(`{"v":2}`)}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		k := newKafka(t, opts, "newer", "one")
		if _, err := k.Acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "upgrade") {
			t.Errorf("Acquire: %v", err)
		}
	})
}

func TestPartitionOfIsThatOfEveryKafkaClient(t *testing.T) {
	// murmur2 of the name, positive, over the number of partitions, as in the
	// Java client's Utils.toPositive(Utils.murmur2(key)) % n.
	for name, want := range map[string]int32{"21": int32(uint32(0x7fffffff&-973932308) % 8), "foobar": int32(uint32(0x7fffffff&-790332482) % 8)} {
		if got := PartitionOf(name, 8); got != want {
			t.Errorf("PartitionOf(%q, 8) = %d, want %d", name, got, want)
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
