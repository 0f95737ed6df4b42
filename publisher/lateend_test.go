package publisher

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// TestSoakLateEndTxn is the late EndTxn of TestOnRealBrokers a thousand times with each
// version of the brokers' protocol.
func TestSoakLateEndTxn(t *testing.T) {
	if os.Getenv("FHIR_CDC_TEST_SOAK") == "" {
		t.Skip("takes minutes; FHIR_CDC_TEST_SOAK asks for it")
	}
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("transaction.version=%d", version), func(t *testing.T) {
			network := proxy.ForTest(t, proxy.Kafka())
			server := services.KafkaForTest(t, services.KafkaOptions{TransactionVersion: version, Listeners: []services.KafkaListener{proxied(network)}})
			network.Forward(server.Listeners[proxyListener])
			opts, err := ClientOptions(Connection{Brokers: server.Brokers}, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			req := requirements()
			req.Create = true
			if _, err := CheckTopics(t.Context(), opts, req); err != nil {
				t.Fatal(err)
			}
			lateEndTxn(t, version, network, 1000)
		})
	}
}

const proxyListener = "PROXY"

// proxied is a listener whose clients come through a network of the test's.
func proxied(network *proxy.Proxy) services.KafkaListener {
	return services.KafkaListener{Name: proxyListener, Protocol: "PLAINTEXT", Advertise: network.Address()}
}

// lateEndTxn has requests to end a transaction come to the brokers in the next one
// (KAFKA-17754). Every event of both is committed once.
func lateEndTxn(t *testing.T, version int, network *proxy.Proxy, times int) {
	opts, err := ClientOptions(Connection{Brokers: []string{network.Address()}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	// One partition, so that a batch is many requests, one after the other.
	if _, err := kadm.NewClient(plainClient(t, opts...)).CreateTopic(t.Context(), 1, -1, nil, lateTopic); err != nil {
		t.Fatal(err)
	}
	for kind, silent := range map[string]bool{
		"cut":    false,
		"silent": true, // until the client's patience with the answer ends
	} {
		t.Run(kind, func(t *testing.T) {
			n := times
			if silent {
				n = max(1, times/20) // each takes as long as the client waits
			}
			l := lateEnds{version: version, network: network, opts: opts, stream: kind, fault: proxy.Fault{Silent: silent}}
			l.run(t, n)
		})
	}
}

// lateEnds is a publisher whose requests to end a transaction come late.
type lateEnds struct {
	version int
	network *proxy.Proxy
	opts    []kgo.Opt
	stream  string
	fault   proxy.Fault
	p       *Transactional
}

const (
	// eventsEach are the events of a batch, each so large that a request holds one or two:
	// more requests than the client has under way at a time, so that some come after the
	// late one. They are not compressed: lz4 takes buffers of 4 MB for each request, which cost
	// the race detector minutes in all.
	eventsEach = 40
	eventBytes = 700
	lateTopic  = "late.events"
)

func (l *lateEnds) run(t *testing.T, times int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(times)*10*time.Second+2*time.Minute)
	defer cancel()
	own := append(append([]kgo.Opt{}, l.opts...), kgo.RequestTimeoutOverhead(time.Second))
	p, err := NewTransactional(resumetoken.KafkaOptions{
		ClientOptions: own, Topic: posTopic, Name: "late", Stream: l.stream, Instance: "one", TransactionTimeout: 30 * time.Second,
	}, Options{Stream: l.stream, MaxRecordBytes: 1500, Compression: "none"})
	if err != nil {
		t.Fatal(err)
	}
	defer closePublisher(t, p)
	l.p = p
	_, err = p.Acquire(ctx)
	mustBeNew(t, err)
	// The first commit tells what the next ones may do.
	next, answers := l.publish(ctx, t, 1, 2), map[string]int{}
	// What follows the request that is late: without a word it is repeated at once, else
	// the stream is acquired first.
	until := []string{"Produce", "InitProducerID", "AddPartitionsToTxn"}
	for i := range times {
		fault := l.fault
		fault.Operation, fault.Until = "EndTxn", until[i%len(until)]
		if l.version > 1 {
			fault.Until = until[0] // the others are not asked for
		}
		late := l.network.Inject(fault)
		next = l.publish(ctx, t, next, next+2)
		late.Remove()
		if n := late.Hits(); n != 1 {
			t.Fatalf("%d requests to end a transaction were held back, want 1", n)
		}
		for _, answer := range late.Late() {
			answers[outcome(answer)]++
		}
	}
	t.Logf("the brokers' answers to late requests: %v", answers)
	seen := keys(committed(t, l.opts, lateTopic))
	lost, twice := 0, 0
	for n := uint32(1); n < next; n++ {
		for e := range eventsEach {
			switch seen[l.key(n, e)] {
			case 1:
			case 0:
				lost++
			default:
				twice++
			}
		}
	}
	if lost > 0 || twice > 0 {
		t.Errorf("of %d events %d are lost and %d are there more than once", (next-1)*eventsEach, lost, twice)
	}
	if total := answers["refused"]; total < times/2 {
		t.Errorf("%d late requests came in another transaction and were refused, want at least %d", total, times/2)
	}
}

func (l *lateEnds) key(batch uint32, event int) string {
	return fmt.Sprintf("%s/%d/%d", l.stream, batch, event)
}

// publish commits the batches from next on and before end, as the daemon does: after an
// error it goes on where the stored position says.
func (l *lateEnds) publish(ctx context.Context, t *testing.T, next, end uint32) uint32 {
	t.Helper()
	for next < end {
		names := make([]string, eventsEach)
		for e := range names {
			names[e] = l.key(next, e)
		}
		b := batch(t, next, names...)
		for e := range b.Events {
			b.Events[e].Topic, b.Events[e].Value = lateTopic, make([]byte, eventBytes)
		}
		err := l.p.Commit(ctx, b)
		if err == nil {
			next++
			continue
		}
		if errors.Is(err, resumetoken.ErrFenced) || ctx.Err() != nil {
			t.Fatal(err)
		}
		next = acquireAgain(ctx, t, l.p) + 1
	}
	return next
}

// outcome is what the brokers made of a late EndTxn. In every version that is used here the
// code comes after length, number, an empty field and the pause that is asked for.
func outcome(answer []byte) string {
	const code = 4 + 4 + 1 + 4
	if len(answer) < code+2 {
		return "none"
	}
	switch err := kerr.ErrorForCode(int16(binary.BigEndian.Uint16(answer[code:]))); {
	case err == nil:
		return "done"
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch):
		return "refused"
	default:
		return err.Error()
	}
}
