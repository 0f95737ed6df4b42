package publisher

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Records that the brokers refuse for now are sent again until they take them, and what
// they answer is told meanwhile. It rests on the client's own words.
func TestAnswersOfBrokersThatRefuse(t *testing.T) {
	cluster, opts := fakeKafka(t)
	core, logs := observer.New(zap.WarnLevel)
	told := make(chan error, 100)
	p := newTransactional(t, opts, "one", func(o *resumetoken.KafkaOptions) {
		o.ClientOptions = append(slices.Clone(opts), Answers(zap.New(core), func(err error) { told <- err })...)
		o.TransactionTimeout = time.Minute
	})
	_, err := p.Acquire(t.Context())
	mustBeNew(t, err)
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: eventTopic, Err: kerr.NotEnoughReplicas, Count: -1})
	committed := make(chan error, 1)
	go func() { committed <- p.Commit(context.WithoutCancel(t.Context()), batch(t, 1000, "a", "b", "c", "d")) }()
	select {
	case err := <-told:
		var r *RefusedError
		if !errors.As(err, &r) || r.What != "topic "+eventTopic || !errors.Is(err, kerr.NotEnoughReplicas) || r.For < tellAfter {
			t.Errorf("told: %v", err)
		}
	case err := <-committed:
		t.Fatalf("Commit: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("nothing is told")
	}
	refused.Remove()
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	if lines := logs.FilterMessage(refusing).All(); len(lines) != 1 || lines[0].ContextMap()["what"] != "topic "+eventTopic {
		t.Errorf("logged: %v", lines)
	}
}

// quiet is a client's log that is told nothing but warnings.
type quiet struct{ lines []string }

func (*quiet) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (q *quiet) Log(_ kgo.LogLevel, msg string, _ ...any) { q.lines = append(q.lines, msg) }

func TestAnswersAreToldWhenTheyStay(t *testing.T) {
	var inner quiet
	var told []string
	a := newAnswers(&inner, func(err error) { told = append(told, err.Error()) })
	now := time.Unix(1000, 0)
	a.now = func() time.Time { return now }
	produced := func(to string) { a.Log(kgo.LogLevelDebug, "produced", "broker", "1", "to", to) }
	const short = "one.events[0{retrying@-1,5(NOT_ENOUGH_REPLICAS: Messages are rejected.)}, 1{7=>9}], two-events[2{retrying@-1,1(NOT_LEADER_FOR_PARTITION: This server is not the leader.)}]"
	produced(short)
	now = now.Add(tellAfter - time.Millisecond)
	produced(short)
	now = now.Add(gapAtMost + time.Millisecond) // another refusal
	produced(short)
	now = now.Add(tellAfter)
	produced("one.events[0{7=>9}], two-events[2{1=>2}]") // taken in between
	produced(short)
	now = now.Add(tellAfter)
	produced("one.events[0{retrying@-1,5(NOT_ENOUGH_REPLICAS: Messages are rejected.)}]")
	a.Log(kgo.LogLevelDebug, "retrying request", "request", "EndTxn", "request_error", nil, "response_error", error(kerr.CoordinatorNotAvailable))
	now = now.Add(tellAfter - 1)
	a.Log(kgo.LogLevelInfo, "end transaction response successfully received")
	a.Log(kgo.LogLevelDebug, "retrying request", "request", "EndTxn", "request_error", nil, "response_error", error(kerr.CoordinatorNotAvailable))
	now = now.Add(tellAfter)
	a.Log(kgo.LogLevelDebug, "retrying request", "request", "EndTxn", "request_error", nil, "response_error", error(kerr.CoordinatorNotAvailable))
	a.Log(kgo.LogLevelDebug, "retrying request", "request", "EndTxn", "request_error", errors.New("EOF"), "response_error", nil)
	throttles{a}.OnBrokerThrottle(kgo.BrokerMetadata{NodeID: 3}, throttledFor-1, true)
	throttles{a}.OnBrokerThrottle(kgo.BrokerMetadata{NodeID: 3}, 2*time.Second, true)
	want := []string{"topic one.events: the brokers have been answering for 3s: NOT_ENOUGH_REPLICAS", "request EndTxn: the brokers have been answering for 3s: COORDINATOR_NOT_AVAILABLE", "broker 3 throttles this client by its quota"}
	if len(told) != len(want) {
		t.Fatalf("told: %q", told)
	}
	for i := range want {
		if !strings.HasPrefix(told[i], want[i]) {
			t.Errorf("told: %q, want %q…", told[i], want[i])
		}
	}
	if diff := []string{refusing, refusing, throttling}; !slices.Equal(inner.lines, diff) {
		t.Errorf("logged: %q, want %q", inner.lines, diff)
	}
}
