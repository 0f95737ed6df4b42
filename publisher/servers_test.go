package publisher

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// The brokers' two transaction protocols (before and with KIP-890).
func TestOnRealBrokers(t *testing.T) {
	t.Parallel() // mostly waiting
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("transaction.version=%d", version), func(t *testing.T) {
			t.Parallel()
			network := proxy.ForTest(t, proxy.Kafka())
			server := services.KafkaForTest(t, services.KafkaOptions{
				TransactionVersion: version,
				Listeners:          []services.KafkaListener{{Name: "LOGIN", Protocol: "SASL_PLAINTEXT"}, proxied(network)},
				Properties: map[string]string{
					"sasl.enabled.mechanisms":                     "PLAIN",
					"listener.name.login.sasl.enabled.mechanisms": "PLAIN",
					"listener.name.login.plain.sasl.jaas.config":  `org.apache.kafka.common.security.plain.PlainLoginModule required user_daemon="secret";`,
					"connection.failed.authentication.delay.ms":   "0",
				},
			})
			opts, err := ClientOptions(Connection{Brokers: server.Brokers, ClientID: "test"}, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			createsTopics(t, opts)
			t.Run("read back", func(t *testing.T) { readsBack(t, opts) })
			logsIn(t, server.Listeners["LOGIN"])
			t.Run("exactly once", func(t *testing.T) { exactlyOnce(t, opts) })
			t.Run("at least once", func(t *testing.T) { atLeastOnce(t, opts) })
			network.Forward(server.Listeners[proxyListener])
			t.Run("late EndTxn", func(t *testing.T) { lateEndTxn(t, version, network, 24/version) })
		})
	}
}

func createsTopics(t *testing.T, opts []kgo.Opt) {
	t.Helper()
	req := requirements()
	_, err := CheckTopics(t.Context(), opts, req)
	if err == nil || !errors.As(err, new(*ConfigurationError)) || !strings.Contains(err.Error(), "missing: "+eventTopic) {
		t.Fatalf("CheckTopics of an empty cluster: %v", err)
	}
	req.Create = true
	report, err := CheckTopics(t.Context(), opts, req)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Created) != 4 || report.Partitions[posTopic] != 8 || report.MaxMessageBytes[eventTopic] != 1048588 || len(report.Warnings) > 0 {
		t.Fatalf("CheckTopics: %+v", report)
	}
	again, err := CheckTopics(t.Context(), opts, req)
	if err != nil || len(again.Created) > 0 {
		t.Fatalf("CheckTopics again: %+v, %v", again, err)
	}
}

func logsIn(t *testing.T, broker string) {
	t.Helper()
	for password, want := range map[string]string{"secret": "", "wrong": "refuse the login"} {
		opts, err := ClientOptions(Connection{
			Brokers: []string{broker},
			SASL:    SASL{Enabled: true, Mechanism: mechanismPlain, Username: "daemon", Password: password},
		}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		_, err = CheckTopics(t.Context(), opts, Requirements{Events: []string{eventTopic}})
		switch {
		case want == "" && err != nil:
			t.Errorf("login: %v", err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, new(*ConfigurationError))):
			t.Errorf("login with a wrong password: %v; want a ConfigurationError with %q", err, want)
		}
	}
}

// Two processes take the stream from each other; the loser's batch, which was
// under way, is published by the successor, once.
func exactlyOnce(t *testing.T, opts []kgo.Opt) {
	successor := newTransactional(t, opts, "successor")
	zombie := newTransactional(t, opts, "zombie")
	if _, err := zombie.Acquire(t.Context()); !errors.Is(err, resumetoken.ErrNone) {
		t.Fatal(err)
	}
	if err := zombie.Commit(t.Context(), batch(t, 1000, "a", "b")); err != nil {
		t.Fatal(err)
	}
	if got, err := successor.Acquire(t.Context()); err != nil || got.ClusterTime.T != 1000 {
		t.Fatalf("the successor starts at %v, %v", got.ClusterTime, err)
	}
	if err := zombie.Commit(t.Context(), batch(t, 2000, "c", "d")); !errors.Is(err, resumetoken.ErrFenced) {
		t.Errorf("the zombie's Commit: %v; want ErrFenced", err)
	}
	b := batch(t, 2000, "c", "d")
	b.Failures = []mapper.Failure{failure(t)}
	if err := successor.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "c": 1, "d": 1}, keys(committed(t, opts, eventTopic))); diff != "" {
		t.Error(diff)
	}
	if dead := committed(t, opts, deadTopic); len(dead) != 1 {
		t.Errorf("%d dead letters, want 1", len(dead))
	}
	if got, err := successor.Acquire(t.Context()); err != nil || got.ClusterTime.T != 2000 {
		t.Errorf("the position is %v, %v", got.ClusterTime, err)
	}
	large := batch(t, 3000, "large")
	large.Events[0].Topic = "fhir.bulk_export.events"
	large.Events[0].Value = make([]byte, successor.MaxEventBytes("fhir.bulk_export.events")-large.Events[0].Size())
	if err := successor.Commit(t.Context(), large); err != nil {
		t.Errorf("the largest event: %v", err)
	}
}

func atLeastOnce(t *testing.T, opts []kgo.Opt) {
	store, err := resumetoken.NewKafka(resumetoken.KafkaOptions{ClientOptions: opts, Topic: posTopic, Name: "test", Stream: "idempotent", Instance: "one"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewIdempotent(store, opts, Options{Stream: "idempotent"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closePublisher(t, p)
	_, err = p.Acquire(t.Context())
	mustBeNew(t, err)
	if err := p.Commit(t.Context(), batch(t, 1000, "e", "f")); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Acquire(t.Context()); err != nil || got.ClusterTime.T != 1000 {
		t.Errorf("the position is %v, %v", got.ClusterTime, err)
	}
	seen := keys(committed(t, opts, eventTopic))
	if seen["e"] != 1 || seen["f"] != 1 {
		t.Errorf("events: %v", seen)
	}
}
