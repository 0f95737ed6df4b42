package resumetoken

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

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
	if stored, err := zombie.Inspect(t.Context()); err != nil || stored.Owner.Instance != "successor" {
		t.Errorf("the owner is %+v, %v", stored.Owner, err)
	}
	if err := successor.Commit(t.Context(), event("alive"), position(t, "main", 1000)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"alive"}, committed(t, opts)); diff != "" {
		t.Error(diff)
	}
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
	soon, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := looked.Wait(soon, 2); err != nil {
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

// The look-up of a topic sends no record, and happens once.
func TestKafkaIntroducesTopicsWithoutRecords(t *testing.T) {
	cluster, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	produced := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: events, Observe: true, Count: -1})
	if err := k.client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := k.introduceAll(t.Context(), []kgo.Record{{Topic: events}, {Topic: positions}, {Topic: events}}); err != nil {
			t.Fatal(err)
		}
	}
	err := k.introduceAll(t.Context(), []kgo.Record{{Topic: "missing"}})
	if !errors.Is(err, kerr.UnknownTopicOrPartition) || !strings.Contains(err.Error(), "look up topic missing") {
		t.Errorf("a missing topic: %v", err)
	}
	if err := k.client.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if produced.Hits() > 0 || k.client.BufferedProduceRecords() > 0 {
		t.Error("the look-up has produced records")
	}
	if err := k.Commit(t.Context(), event("first"), position(t, "main", 1000)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first"}, committed(t, opts)); diff != "" {
		t.Error(diff)
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
	want := []string{"after_fence", "after_claim", "after_read", "before_begin", "after_begin", "after_produce", "after_position", "after_flush", "before_commit", "after_commit"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

// A client that takes a new epoch in the middle of a transaction, by itself, has had what was
// acknowledged before aborted: what comes after must not be committed without it.
func TestKafkaNewEpochInTheMiddle(t *testing.T) {
	cluster, opts := fakeKafka(t, 1)
	k := newKafka(t, opts, "main", "one")
	mustBeNew(t, k)
	if err := k.Commit(t.Context(), event("first"), position(t, "main", 1000)); err != nil {
		t.Fatal(err)
	}
	// As a leader answers whose partition has lost, by its retention, all that it knew of
	// the producer: the client takes it for harmless.
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		req := r.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				refused := kmsg.NewProduceResponseTopicPartition()
				refused.Partition, refused.ErrorCode, refused.LogStartOffset = p.Partition, kerr.InvalidProducerEpoch.Code, 1<<40
				answer.Partitions = append(answer.Partitions, refused)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	err := k.Commit(t.Context(), event("second"), position(t, "main", 2000))
	if err == nil || !strings.Contains(err.Error(), "begun it anew") {
		t.Fatalf("Commit: %v", err)
	}
	if got := mustAcquire(t, k); got.ClusterTime.T != 1000 {
		t.Errorf("the position is %v", got.ClusterTime)
	}
	if err := k.Commit(t.Context(), event("second"), position(t, "main", 2000)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first", "second"}, committed(t, opts)); diff != "" {
		t.Error(diff)
	}
}
