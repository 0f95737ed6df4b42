package publisher

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

func requirements() Requirements {
	return Requirements{
		Events: []string{eventTopic, "fhir.bulk_export.events", eventTopic}, Positions: posTopic, DeadLetters: deadTopic,
		Partitions: 6, PositionPartitions: 8, ReplicationFactor: -1,
	}
}

func emptyKafka(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, []kgo.Opt) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
}

func TestCheckTopicsNamesAllThatAreMissing(t *testing.T) {
	_, opts := emptyKafka(t, kfake.SeedTopics(1, "fhir.bulk_export.events"))
	_, err := CheckTopics(t.Context(), opts, requirements())
	const want = "check topics: missing: business.events (6 partitions), " +
		"fhir-cdc.positions (8 partitions, cleanup.policy=compact, segment.ms=600000, min.cleanable.dirty.ratio=0.1), " +
		"fhir-cdc.dead-letters (6 partitions). Create them, or set topics.create: true (FHIR_CDC_TOPICS_CREATE=true) " +
		"to have them made like this, with the brokers' replication factor"
	if err == nil {
		t.Fatal("missing topics were accepted")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	if !errors.As(err, new(*ConfigurationError)) {
		t.Errorf("%T is no ConfigurationError: trying again would not help", err)
	}
}

// A process that must not create topics does not advise what is set already.
func TestCheckTopicsThatTheDaemonCreates(t *testing.T) {
	_, opts := emptyKafka(t)
	req := requirements()
	req.DaemonCreates = true
	_, err := CheckTopics(t.Context(), opts, req)
	if err == nil || !strings.Contains(err.Error(), "The daemon creates them when it first runs") || strings.Contains(err.Error(), "Create them") {
		t.Errorf("got %v", err)
	}
}

func TestCheckTopicsCreates(t *testing.T) {
	_, opts := emptyKafka(t)
	req := requirements()
	req.Create = true
	report, err := CheckTopics(t.Context(), opts, req)
	if err != nil {
		t.Fatal(err)
	}
	want := Report{
		Created:         []string{eventTopic, "fhir.bulk_export.events", posTopic, deadTopic},
		Partitions:      map[string]int{eventTopic: 6, "fhir.bulk_export.events": 6, posTopic: 8, deadTopic: 6},
		MaxMessageBytes: map[string]int{eventTopic: 1048588, "fhir.bulk_export.events": 1048588, posTopic: 1048588, deadTopic: 1048588},
	}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Error(diff)
	}
	want.Created = nil
	req.Create = false
	if report, err = CheckTopics(t.Context(), opts, req); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Error("the second time:", diff)
	}
}

func TestCheckTopicsReadsLimits(t *testing.T) {
	cluster, opts := emptyKafka(t)
	limit, compact := "5000", "compact"
	for topic, configs := range map[string]map[string]string{
		eventTopic: {"max.message.bytes": limit}, "fhir.bulk_export.events": nil, deadTopic: nil, posTopic: {"cleanup.policy": compact},
	} {
		if err := cluster.CreateTopic(topic, 1, configs); err != nil {
			t.Fatal(err)
		}
	}
	report, err := CheckTopics(t.Context(), opts, requirements())
	if err != nil {
		t.Fatal(err)
	}
	if got := (Options{TopicMaxBytes: report.MaxMessageBytes}).MaxEventBytes(eventTopic); got != 5000-Framing {
		t.Errorf("MaxEventBytes = %d", got)
	}
}

func TestCheckTopicsRefusesPositionsThatGetLost(t *testing.T) {
	for policy, want := range map[string]string{
		"delete": "cleanup.policy=delete", "compact,delete": "cleanup.policy=compact,delete", "": "", "compact": "",
	} {
		t.Run(policy, func(t *testing.T) {
			cluster, opts := emptyKafka(t)
			configs := map[string]string{"cleanup.policy": policy}
			if policy == "" {
				configs, want = nil, "cleanup.policy=delete" // the brokers' default
			}
			if err := cluster.CreateTopic(posTopic, 1, configs); err != nil {
				t.Fatal(err)
			}
			_, err := CheckTopics(t.Context(), opts, Requirements{Positions: posTopic})
			if want == "" && err != nil {
				t.Error(err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, new(*ConfigurationError))) {
				t.Errorf("CheckTopics: %v; want an error with %q", err, want)
			}
		})
	}
}

func TestCheckTopicsWithoutPermissions(t *testing.T) {
	t.Run("to see a topic", func(t *testing.T) {
		cluster, opts := emptyKafka(t, kfake.SeedTopics(1, eventTopic, "fhir.bulk_export.events", deadTopic, posTopic))
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: eventTopic, Err: kerr.TopicAuthorizationFailed, Count: -1})
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: deadTopic, Err: kerr.TopicAuthorizationFailed, Count: -1})
		_, err := CheckTopics(t.Context(), opts, requirements())
		if err == nil || !strings.Contains(err.Error(), "topic "+eventTopic+": the user needs Write on it") || !strings.Contains(err.Error(), "topic "+deadTopic+": ") {
			t.Errorf("CheckTopics: %v", err)
		}
	})
	t.Run("to read a configuration", func(t *testing.T) {
		cluster, opts := emptyKafka(t, kfake.SeedTopics(1, eventTopic))
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		report, err := CheckTopics(t.Context(), opts, Requirements{Events: []string{eventTopic}})
		if err != nil || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], eventTopic) || len(report.MaxMessageBytes) > 0 {
			t.Errorf("CheckTopics: %+v, %v; want a warning", report, err)
		}
	})
	t.Run("to create a topic", func(t *testing.T) {
		cluster, opts := emptyKafka(t)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: eventTopic, Err: kerr.TopicAuthorizationFailed, Count: -1})
		_, err := CheckTopics(t.Context(), opts, Requirements{Events: []string{eventTopic}, Create: true, Partitions: 1, ReplicationFactor: -1})
		if !errors.Is(err, kerr.TopicAuthorizationFailed) || !strings.Contains(err.Error(), "create topic "+eventTopic) {
			t.Errorf("CheckTopics: %v", err)
		}
	})
}

// Brokers that have just started do not count for a replication factor yet; a factor that
// there will never be brokers for is told.
func TestCheckTopicsWaitsForBrokers(t *testing.T) {
	for name, test := range map[string]struct {
		refusals int
		want     error
	}{"register": {3, nil}, "are too few": {-1, kerr.InvalidReplicationFactor}} {
		t.Run(name, func(t *testing.T) {
			cluster, opts := emptyKafka(t)
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: eventTopic, Err: kerr.InvalidReplicationFactor, Count: test.refusals})
			report, err := CheckTopics(t.Context(), opts, Requirements{Events: []string{eventTopic}, Create: true, Partitions: 1, ReplicationFactor: 1})
			if !errors.Is(err, test.want) || (err == nil && !slices.Equal(report.Created, []string{eventTopic})) {
				t.Errorf("CheckTopics: %+v, %v; want %v", report, err, test.want)
			}
		})
	}
}

func TestCheckTopicsOutOfReach(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = CheckTopics(t.Context(), []kgo.Opt{kgo.SeedBrokers(addr), kgo.RequestRetries(1)}, requirements())
		if err == nil || !strings.Contains(err.Error(), "no broker at "+addr+" can be reached") || !strings.Contains(err.Error(), "refused") {
			t.Errorf("CheckTopics: %v", err)
		}
		if errors.As(err, new(*ConfigurationError)) {
			t.Error("trying again would help")
		}
	})
	t.Run("the login is not what the listener wants", func(t *testing.T) {
		_, opts := emptyKafka(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "user", "right"))
		opts = append(opts, kgo.SASL(plain.Auth{User: "user", Pass: "wrong"}.AsMechanism()), kgo.RequestRetries(1))
		_, err := CheckTopics(t.Context(), opts, requirements())
		if err == nil || !strings.Contains(err.Error(), "kafka.sasl") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("CheckTopics: %v", err)
		}
	})
}

// What a listener says of a client that logs in where nobody does, or does not where everybody
// does, names no setting: the error does.
func TestCheckTopicsSaysWhetherLoginsFit(t *testing.T) {
	login := kgo.SASL(plain.Auth{User: "user", Pass: "right"}.AsMechanism())
	for name, test := range map[string]struct {
		listener []kfake.Opt
		client   []kgo.Opt
		want     string
	}{
		"a login that nobody asks for":    {nil, []kgo.Opt{login}, "take no login there, and kafka.sasl.enabled is true: set it to false"},
		"no login where one is asked for": {[]kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "user", "right")}, nil, "kafka.sasl.enabled is false: does their listener ask for a login"},
	} {
		cluster, opts := emptyKafka(t, test.listener...)
		if test.listener == nil { // as a real broker answers
			cluster.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				answer := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
				answer.ErrorCode = kerr.IllegalSaslState.Code
				return answer, nil, true
			})
		}
		_, err := CheckTopics(t.Context(), slices.Concat(opts, test.client, []kgo.Opt{kgo.RequestRetries(1)}), requirements())
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestLacking(t *testing.T) {
	needed := []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationDescribe, kmsg.ACLOperationWrite}
	bits := func(ops ...kmsg.ACLOperation) (set int32) {
		for _, op := range ops {
			set |= 1 << op
		}
		return set
	}
	for _, test := range []struct {
		has  int32
		want string
	}{
		{bits(needed...), ""},
		{bits(kmsg.ACLOperationRead, kmsg.ACLOperationDescribe), "Write"},
		{bits(kmsg.ACLOperationWrite, kmsg.ACLOperationAlter), "Read and Describe"},
		{-1 << 31, ""}, // The brokers do not tell.
		{0, "Read and Describe and Write"},
	} {
		if got := Lacking(needed, test.has); got != test.want {
			t.Errorf("%b lacks %q, want %q", test.has, got, test.want)
		}
	}
}
