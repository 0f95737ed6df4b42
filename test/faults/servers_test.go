package faults_test

import (
	"context"
	"errors"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/proxy"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// servers are those that tests share which leave them alone. Each test has topics of its
// own.
type servers struct {
	// kafka is a broker of each version of the transactions' protocol.
	kafka map[int]*services.Shared[*broker]
}

// broker is one that can also be reached through a network of the test's.
type broker struct {
	*services.Kafka
	network *proxy.Proxy
}

// A listener that tells its clients to come to an address that nobody can resolve.
const astray, nowhere = "ASTRAY", "kafka.invalid:9092"

func startBroker(ctx context.Context, options services.KafkaOptions) (*broker, error) {
	network, err := proxy.Listen(proxy.Kafka())
	if err != nil {
		return nil, err
	}
	const name = "PROXY"
	options.Listeners = []services.KafkaListener{
		{Name: name, Protocol: "PLAINTEXT", Advertise: network.Address()},
		{Name: astray, Protocol: "PLAINTEXT", Advertise: nowhere},
	}
	kafka, err := services.StartKafka(ctx, options)
	if err != nil {
		return nil, errors.Join(err, network.Close())
	}
	network.Forward(kafka.Listeners[name])
	return &broker{kafka, network}, nil
}

func (b *broker) Close() error { return errors.Join(b.network.Close(), b.Kafka.Close()) }

func newServers() *servers {
	s := &servers{kafka: map[int]*services.Shared[*broker]{}}
	for _, version := range []int{1, 2} {
		var options services.KafkaOptions
		if version != newestTransactions {
			options.TransactionVersion = version
		}
		s.kafka[version] = services.Share("a Kafka broker", func(ctx context.Context) (*broker, error) { return startBroker(ctx, options) })
	}
	return s
}

// newestTransactions is what a broker has that is not told otherwise.
const newestTransactions = 2

var shared = newServers()

// sharedBrokers are the Kafka of the newest kind.
func sharedBrokers(t *testing.T) []string {
	t.Helper()
	return shared.kafka[newestTransactions].ForTest(t).Brokers
}

// ownMongoDB is a MongoDB of the test's own, with failpoints. A change stream looks at all
// that is written to its server, so one that tests share takes far more of the processors
// than the start of one for each.
func ownMongoDB(t *testing.T) string {
	t.Helper()
	return services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true}).URI
}
