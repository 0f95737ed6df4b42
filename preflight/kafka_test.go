package preflight

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	eventTopic = "business.events"
	posTopic   = "fhir-cdc.positions"
)

// broken is a broker in this process that answers requests with errors.
func broken(t *testing.T, faults ...kfake.Fault) []kgo.Opt {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, eventTopic), kfake.SeedTopics(1, posTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	for _, f := range faults {
		f.Count = -1
		cluster.Fault(f)
	}
	return []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MetadataMinAge(20 * time.Millisecond), kgo.RetryTimeout(3 * time.Second)}
}

// about asserts what one of the findings says.
func about(t *testing.T, findings []Finding, level Level, subject, says string) {
	t.Helper()
	for _, f := range findings {
		if f.Level == level && f.Subject == subject && strings.Contains(f.Found+"; "+f.Advice, says) {
			return
		}
	}
	t.Errorf("no %s of %q says %q: %+v", level, subject, says, findings)
}

// A topic that cannot be used, or not be looked at, is told with what to do; the others
// are checked all the same.
func TestTopicsFail(t *testing.T) {
	for name, test := range map[string]struct {
		fault         kfake.Fault
		level         Level
		subject, says string
	}{
		"hidden":      {kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: eventTopic, Err: kerr.TopicAuthorizationFailed}, Error, "topic " + eventTopic, "grant Describe and Write"},
		"no leader":   {kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: eventTopic, Partitions: []int32{1}, Err: kerr.LeaderNotAvailable}, Error, "topic " + eventTopic, "partition 1 has no leader; see that its brokers are up"},
		"no settings": {kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: eventTopic, Err: kerr.TopicAuthorizationFailed}, Warning, "topic " + eventTopic + ": settings", "grant DescribeConfigs"},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := kgo.NewClient(broken(t, test.fault)...)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			findings := Kafka{Client: client}.Topics(t.Context(), []Topic{{Name: eventTopic}, {Name: posTopic}, {Name: "nowhere"}})
			about(t, findings, test.level, test.subject, test.says)
			about(t, findings, Error, "topic nowhere", "missing; create it")
			// One replica.
			about(t, findings, Warning, "topic "+posTopic, "1 replica")
		})
	}
	t.Run("missing, and made by the daemon", func(t *testing.T) {
		client, err := kgo.NewClient(broken(t)...)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		about(t, Kafka{Client: client, Creates: true}.Topics(t.Context(), []Topic{{Name: "nowhere"}}), OK, "topic nowhere", "the daemon creates it")
	})
}

// A check that is interrupted leaves no transaction behind.
func TestTransactionInterrupted(t *testing.T) {
	const id = "fhir-cdc/check/transaction"
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, posTopic))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	cluster.ControlKey(int16(kmsg.DescribeTransactions), func(kmsg.Request) (kmsg.Response, error, bool) {
		interrupt()
		return nil, nil, false
	})
	Transaction{Client: []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}, ID: id, Topic: posTopic, Timeout: 30 * time.Second}.Try(ctx)
	if ctx.Err() == nil {
		t.Fatal("the transaction was not looked at while it was open")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	described, err := kadm.NewClient(client).DescribeTransactions(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if state := described[id].State; state == "Ongoing" || state == "" {
		t.Errorf("the transaction is left in state %q", state)
	}
}

// A transaction that cannot be had is told with what to do about it.
func TestTransactionFails(t *testing.T) {
	const id = "fhir-cdc/check/transaction"
	for name, test := range map[string]struct {
		faults []kfake.Fault
		level  Level
		says   string
	}{
		"none of them":   {nil, OK, "one was begun, written to and aborted"},
		"the id":         {[]kfake.Fault{{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.TransactionalIDAuthorizationFailed}}, Error, `grant Write on the transactional ids that begin with "fhir-cdc/"`},
		"its length":     {[]kfake.Fault{{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.InvalidTransactionTimeout}}, Error, "transaction.max.timeout.ms"},
		"the topic":      {[]kfake.Fault{{Keys: []kmsg.Key{kmsg.Produce}, Topic: posTopic, Err: kerr.TopicAuthorizationFailed}}, Error, "grant Read, Write and Describe on topic " + posTopic},
		"no coordinator": {[]kfake.Fault{{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable}}, Error, "transaction.state.log.replication.factor"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			about(t, Transaction{Client: broken(t, test.faults...), ID: id, Topic: posTopic, Timeout: 30 * time.Second}.Try(ctx), test.level, "transactions", test.says)
		})
	}
}
