package publisher

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

func mustBeNew(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, resumetoken.ErrNone) {
		t.Fatalf("Acquire: %v; want ErrNone", err)
	}
}

func TestTransactionalWritesTheRecordsOfABatch(t *testing.T) {
	_, opts := fakeKafka(t)
	p := newTransactional(t, opts, "one")
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	b := batch(t, 1000, "a", "b")
	b.Failures = []mapper.Failure{failure(t)}
	if err := p.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), batch(t, 2000)); err != nil { // the position alone
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), batch(t, 3000, "c")); err != nil { // the memory of the first is used again
		t.Fatal(err)
	}
	records := committed(t, opts, eventTopic)
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "c": 1}, keys(records)); diff != "" {
		t.Error(diff)
	}
	for _, r := range records {
		want := []kgo.RecordHeader{{Key: "b3", Value: []byte("request-" + string(r.Key))}, {Key: "version", Value: []byte("R4")}}
		if diff := cmp.Diff(want, r.Headers); diff != "" {
			t.Errorf("headers of %s: %s", r.Key, diff)
		}
		if want := `{"id":"` + string(r.Key) + `"}`; string(r.Value) != want {
			t.Errorf("value of %s: %s", r.Key, r.Value)
		}
		if want := kgo.StickyKeyPartitioner(nil).ForTopic("").Partition(r, 6); int(r.Partition) != want {
			t.Errorf("%s is in partition %d, not in that of its key's hash, %d", r.Key, r.Partition, want)
		}
	}
	if dead := committed(t, opts, deadTopic); len(dead) != 1 {
		t.Errorf("%d dead letters, want 1", len(dead))
	}
	if got, err := p.Acquire(t.Context()); err != nil || got.ClusterTime.T != 3000 {
		t.Errorf("the position is %v, %v", got.ClusterTime, err)
	}
}

func TestTransactionalIsFailStop(t *testing.T) {
	cluster, opts := fakeKafka(t)
	p := newTransactional(t, opts, "one")
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	keysOf := make([]string, 200)
	for i := range keysOf {
		keysOf[i] = fmt.Sprint("k", i)
	}
	if err := p.Commit(t.Context(), batch(t, 1000, keysOf[:100]...)); err != nil {
		t.Fatal(err)
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: eventTopic, Partitions: []int32{3}, Err: kerr.TopicAuthorizationFailed})
	if err := p.Commit(t.Context(), batch(t, 2000, keysOf[100:]...)); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Fatalf("Commit: %v", err)
	}
	if err := p.Commit(t.Context(), batch(t, 3000, "later")); err == nil {
		t.Fatal("a batch was accepted after one had failed")
	}
	got, err := p.Acquire(t.Context())
	if err != nil || got.ClusterTime.T != 1000 {
		t.Fatalf("the position is %v, %v", got.ClusterTime, err)
	}
	if err := p.Commit(t.Context(), batch(t, 2000, keysOf[100:]...)); err != nil {
		t.Fatal(err)
	}
	seen := keys(committed(t, opts, eventTopic))
	for _, key := range keysOf {
		if seen[key] != 1 {
			t.Errorf("%s was committed %d times", key, seen[key])
		}
	}
	if len(seen) != len(keysOf) {
		t.Errorf("%d keys, want %d", len(seen), len(keysOf))
	}
}

func TestTransactionalOversizedRecordAbortsTheBatch(t *testing.T) {
	_, opts := fakeKafka(t)
	p := newTransactional(t, opts, "one")
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	b := batch(t, 1000, "small", "large")
	b.Events[1].Value = make([]byte, defaultMaxRecordBytes)
	err = p.Commit(t.Context(), b)
	if !errors.Is(err, kerr.MessageTooLarge) || !strings.Contains(err.Error(), eventTopic) || !strings.Contains(err.Error(), "1000017 bytes") {
		t.Errorf("Commit: %v; want MESSAGE_TOO_LARGE with topic and size", err)
	}
	_, err = p.Acquire(t.Context())
	mustBeNew(t, err)
	if got := committed(t, opts, eventTopic); len(got) != 0 {
		t.Errorf("%d records were committed", len(got))
	}
}

// The largest event that MaxEventBytes lets through is taken, alone or in a
// batch that is larger than what the client buffers.
func TestTransactionalTakesTheLargestEvents(t *testing.T) {
	_, opts := fakeKafka(t)
	// A slow machine takes long over 77 MB.
	p := newTransactional(t, opts, "one", func(o *resumetoken.KafkaOptions) { o.TransactionTimeout = 5 * time.Minute })
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	const n = maxBufferedBytes/defaultMaxRecordBytes + 10
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("k", i)
	}
	b := batch(t, 1000, names...)
	for i := range b.Events {
		e := &b.Events[i]
		for range 30 {
			e.Headers = append(e.Headers, mapper.Header{Key: "h", Value: []byte("v")})
		}
		e.Value = make([]byte, p.MaxEventBytes(eventTopic)-e.Size()+len(e.Value))
		if e.Size() != p.MaxEventBytes(eventTopic) {
			t.Fatal(e.Size())
		}
	}
	if err := p.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func TestMaxEventBytes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		opts  Options
		topic string
		want  int
	}{
		{"default", Options{}, "a", 1000012 - Framing},
		{"setting", Options{MaxRecordBytes: 5000}, "a", 5000 - Framing},
		{"topic below the setting", Options{MaxRecordBytes: 5000, TopicMaxBytes: map[string]int{"a": 2000}}, "a", 2000 - Framing},
		{"topic above the setting", Options{MaxRecordBytes: 5000, TopicMaxBytes: map[string]int{"a": 9000}}, "a", 5000 - Framing},
		{"another topic", Options{TopicMaxBytes: map[string]int{"a": 2000}}, "b", 1000012 - Framing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.opts.MaxEventBytes(tc.topic); got != tc.want {
				t.Errorf("MaxEventBytes = %d, want %d", got, tc.want)
			}
		})
	}
}

func TestTransactionalZombieIsFenced(t *testing.T) {
	_, opts := fakeKafka(t)
	zombie, successor := newTransactional(t, opts, "zombie"), newTransactional(t, opts, "successor")
	_, err := zombie.Acquire(t.Context())
	mustBeNew(t, err)
	_, err = successor.Acquire(t.Context())
	mustBeNew(t, err)
	if err := zombie.Commit(t.Context(), batch(t, 1000, "a")); !errors.Is(err, resumetoken.ErrFenced) {
		t.Errorf("the zombie's Commit: %v; want ErrFenced", err)
	}
	if stored, err := zombie.positions.Inspect(t.Context()); err != nil || stored.Owner.Instance != "successor" {
		t.Errorf("the owner is %+v, %v", stored.Owner, err)
	}
}

func TestTransactionalRefuses(t *testing.T) {
	_, opts := fakeKafka(t)
	positions := resumetoken.KafkaOptions{ClientOptions: opts, Topic: posTopic, Name: "test", Stream: "main"}
	if _, err := NewTransactional(positions, Options{Compression: "rar"}); err == nil || !strings.Contains(err.Error(), "rar") {
		t.Errorf("an unknown compression: %v", err)
	}
	positions.Stream = ""
	if _, err := NewTransactional(positions, Options{}); err == nil {
		t.Error("no stream name was accepted")
	}
	p := newTransactional(t, opts, "one")
	if err := p.Commit(t.Context(), batch(t, 1000, "a")); err == nil {
		t.Error("a batch was accepted before Acquire")
	}
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	b := batch(t, 1000, "a")
	b.Events[0].Topic = ""
	if err := p.Commit(t.Context(), b); err == nil || !strings.Contains(err.Error(), "no topic") {
		t.Errorf("an event without a topic: %v", err)
	}
	p.opts.DeadLetters = ""
	b = batch(t, 1000)
	b.Failures = []mapper.Failure{failure(t)}
	var f *mapper.Failure
	if err := p.Commit(t.Context(), b); !errors.As(err, &f) {
		t.Errorf("a failure without a dead-letter topic: %v", err)
	}
}
