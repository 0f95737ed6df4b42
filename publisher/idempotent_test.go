package publisher

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// memory is a store that notes each saved cluster time.
type memory struct {
	saved    []uint32
	position resumetoken.Position
	fail     error
	closed   bool
}

func (m *memory) Acquire(context.Context) (resumetoken.Position, error) {
	if m.position.IsZero() {
		return resumetoken.Position{}, resumetoken.ErrNone
	}
	return m.position, nil
}

func (m *memory) Save(_ context.Context, p resumetoken.Position) error {
	if m.fail != nil {
		return m.fail
	}
	m.saved, m.position = append(m.saved, p.ClusterTime.T), p
	return nil
}

func (m *memory) Close(context.Context) error {
	m.closed = true
	return nil
}

func newIdempotent(t *testing.T, opts []kgo.Opt, interval time.Duration) (*Idempotent, *memory) {
	t.Helper()
	store := &memory{}
	p, err := NewIdempotent(store, opts, Options{Stream: "main", DeadLetters: deadTopic}, interval)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Acquire(t.Context())
	mustBeNew(t, err)
	return p, store
}

func TestIdempotentSavesAtIntervalsAndAtTheEnd(t *testing.T) {
	_, opts := fakeKafka(t)
	p, store := newIdempotent(t, opts, time.Second)
	now := time.Unix(1000, 0)
	p.now = func() time.Time { return now }
	commit := func(clusterTime uint32, after time.Duration) {
		t.Helper()
		now = now.Add(after)
		if err := p.Commit(t.Context(), batch(t, clusterTime, fmt.Sprint(clusterTime))); err != nil {
			t.Fatal(err)
		}
	}
	commit(1, 0)
	commit(2, 400*time.Millisecond)
	commit(3, 400*time.Millisecond)
	commit(4, 400*time.Millisecond)
	commit(5, 400*time.Millisecond)
	if diff := cmp.Diff([]uint32{1, 4}, store.saved); diff != "" {
		t.Error("saved by Commit:", diff)
	}
	for range 2 {
		if err := p.checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	commit(6, 400*time.Millisecond)
	closePublisher(t, p)
	if diff := cmp.Diff([]uint32{1, 4, 5, 6}, store.saved); diff != "" {
		t.Error("saved in all:", diff)
	}
	if !store.closed {
		t.Error("the store was left open")
	}
	if err := p.Commit(t.Context(), batch(t, 7)); err == nil {
		t.Error("a batch was accepted after Close")
	}
	if got := keys(committed(t, opts, eventTopic)); len(got) != 6 {
		t.Errorf("events: %v", got)
	}
}

// One partition refuses once: records of later batches would be taken there, so
// nothing may be handed over any more, and no position may be saved past it.
func TestIdempotentIsFailStop(t *testing.T) {
	cluster, opts := fakeKafka(t)
	p, store := newIdempotent(t, opts, time.Hour)
	keysOf := make([]string, 200)
	for i := range keysOf {
		keysOf[i] = fmt.Sprint("k", i)
	}
	for i, b := range []*Batch{batch(t, 1, "first"), batch(t, 2, keysOf[:100]...)} {
		if err := p.Commit(t.Context(), b); err != nil {
			t.Fatal(i, err)
		}
	}
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: eventTopic, Partitions: []int32{3}, Err: kerr.TopicAuthorizationFailed})
	if err := p.Commit(t.Context(), batch(t, 3, keysOf[100:]...)); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Fatalf("Commit: %v", err)
	}
	if refused.Hits() != 1 {
		t.Fatalf("%d requests were refused", refused.Hits())
	}
	if err := p.Commit(t.Context(), batch(t, 4, "later")); !errors.Is(err, errBroken) {
		t.Fatalf("Commit after an error: %v; want a refusal until Acquire", err)
	}
	if diff := cmp.Diff([]uint32{1, 2}, store.saved); diff != "" {
		t.Error("saved:", diff)
	}
	got, err := p.Acquire(t.Context())
	if err != nil || got.ClusterTime.T != 2 {
		t.Fatalf("Acquire: %v, %v", got.ClusterTime, err)
	}
	if err := p.Commit(t.Context(), batch(t, 3, keysOf[100:]...)); err != nil {
		t.Fatal(err)
	}
	closePublisher(t, p)
	seen := keys(committed(t, opts, eventTopic))
	if seen["later"] != 0 {
		t.Error("a batch after the failed one was published")
	}
	for _, key := range keysOf {
		if seen[key] == 0 {
			t.Errorf("%s is missing", key)
		}
	}
}

// The client's own retries make no duplicates: the brokers append, but answer
// that they could not replicate.
func TestIdempotentRetriesMakeNoDuplicates(t *testing.T) {
	cluster, opts := fakeKafka(t)
	p, _ := newIdempotent(t, opts, 0)
	defer closePublisher(t, p)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: eventTopic, Err: kerr.NotEnoughReplicasAfterAppend, Count: 3})
	if err := p.Commit(t.Context(), batch(t, 1, "a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "c": 1}, keys(committed(t, opts, eventTopic))); diff != "" {
		t.Error(diff)
	}
}

func TestIdempotentCheckpointFailure(t *testing.T) {
	_, opts := fakeKafka(t)
	p, store := newIdempotent(t, opts, 0)
	store.fail = resumetoken.ErrFenced
	if err := p.Commit(t.Context(), batch(t, 1, "a")); !errors.Is(err, resumetoken.ErrFenced) {
		t.Fatalf("Commit: %v; want ErrFenced", err)
	}
	if err := p.Commit(t.Context(), batch(t, 2, "b")); !errors.Is(err, errBroken) {
		t.Fatalf("Commit after being fenced: %v", err)
	}
	store.fail = nil
	closePublisher(t, p)
	if len(store.saved) > 0 {
		t.Errorf("a fenced publisher saved %v", store.saved)
	}
}

func TestIdempotentCancelledCommitEnds(t *testing.T) {
	cluster, opts := fakeKafka(t)
	p, store := newIdempotent(t, opts, time.Hour)
	if err := p.Commit(t.Context(), batch(t, 1, "a")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: eventTopic, Err: kerr.NotEnoughReplicas, Count: -1})
	go func() {
		_ = refused.Wait(ctx, 2)
		cancel()
	}()
	if err := p.Commit(ctx, batch(t, 2, "b")); !errors.Is(err, context.Canceled) {
		t.Fatalf("Commit: %v; want context.Canceled", err)
	}
	closePublisher(t, p)
	if diff := cmp.Diff([]uint32{1}, store.saved); diff != "" {
		t.Error("saved:", diff)
	}
}

// The position in Kafka and the events outside of its transactions.
func TestIdempotentWithKafkaPositions(t *testing.T) {
	_, opts := fakeKafka(t)
	open := func(instance string) *Idempotent {
		store, err := resumetoken.NewKafka(resumetoken.KafkaOptions{ClientOptions: opts, Topic: posTopic, Name: "test", Stream: "main", Instance: instance})
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewIdempotent(store, opts, Options{Stream: "main"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := open("one")
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	if err := p.Commit(t.Context(), batch(t, 1000, "a")); err != nil {
		t.Fatal(err)
	}
	closePublisher(t, p)
	next := open("two")
	got, err := next.Acquire(t.Context())
	if err != nil || got.ClusterTime.T != 1000 {
		t.Errorf("the next process starts at %v, %v", got.ClusterTime, err)
	}
	closePublisher(t, next)
}

func TestIdempotentRefuses(t *testing.T) {
	_, opts := fakeKafka(t)
	if _, err := NewIdempotent(&memory{}, opts, Options{Compression: "rar"}, 0); err == nil {
		t.Error("an unknown compression was accepted")
	}
	p, store := newIdempotent(t, opts, 0)
	defer closePublisher(t, p)
	b := batch(t, 1, "a")
	b.Position = resumetoken.Position{}
	if err := p.Commit(t.Context(), b); err == nil {
		t.Error("a batch without a position was accepted")
	}
	store.position.Token, store.fail = nil, nil
	if got := committed(t, opts, eventTopic); len(got) > 0 {
		t.Error("its events were published")
	}
}
