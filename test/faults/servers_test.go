package faults_test

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/proxy"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// startTimeout is for the servers, a first download included.
const startTimeout = 10 * time.Minute

// server is one that tests share which leave it alone. The first that needs it
// starts it. Each test has databases and topics of its own.
type server[S io.Closer] struct {
	start func(context.Context) (S, error)

	once    sync.Once
	started bool
	server  S
	err     error
}

// servers are all that are shared.
type servers struct {
	mongo server[*services.MongoDB]
	// refusing is held while commands are refused: mongod has one failpoint for all
	// clients, and it counts for all.
	refusing sync.Mutex
	// kafka is a broker of each version of the transactions' protocol.
	kafka map[int]*server[*broker]
}

// broker is one that can also be reached through a network of the test's.
type broker struct {
	*services.Kafka
	network *proxy.Proxy
}

func startBroker(ctx context.Context, options services.KafkaOptions) (*broker, error) {
	network, err := proxy.Listen(proxy.Kafka())
	if err != nil {
		return nil, err
	}
	const name = "PROXY"
	options.Listeners = []services.KafkaListener{{Name: name, Protocol: "PLAINTEXT", Advertise: network.Address()}}
	kafka, err := services.StartKafka(ctx, options)
	if err != nil {
		return nil, errors.Join(err, network.Close())
	}
	network.Forward(kafka.Listeners[name])
	return &broker{kafka, network}, nil
}

func (b *broker) Close() error { return errors.Join(b.network.Close(), b.Kafka.Close()) }

func newServers() *servers {
	s := &servers{kafka: map[int]*server[*broker]{}}
	s.mongo.start = func(ctx context.Context) (*services.MongoDB, error) {
		// With failpoints; they are set for one client each.
		return services.StartMongoDB(ctx, services.MongoDBOptions{TestCommands: true})
	}
	for _, version := range []int{1, 2} {
		var options services.KafkaOptions
		if version != newestTransactions {
			options.TransactionVersion = version
		}
		s.kafka[version] = &server[*broker]{start: func(ctx context.Context) (*broker, error) { return startBroker(ctx, options) }}
	}
	return s
}

// newestTransactions is what a broker has that is not told otherwise.
const newestTransactions = 2

var shared = newServers()

func (s *server[S]) get(t *testing.T) S {
	t.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		s.server, s.err = s.start(ctx)
		s.started = s.err == nil
	})
	switch {
	case errors.Is(s.err, services.ErrUnavailable) && os.Getenv("CI") != "true":
		t.Skip(s.err)
	case s.err != nil:
		t.Fatal(s.err)
	}
	return s.server
}

func (s *server[S]) close() error {
	if !s.started {
		return nil
	}
	return s.server.Close()
}

// sharedServers are the MongoDB and the Kafka of the newest kind.
func sharedServers(t *testing.T) (mongoURI string, brokers []string) {
	t.Helper()
	return shared.mongo.get(t).URI, shared.kafka[newestTransactions].get(t).Brokers
}

// close ends what was started.
func (s *servers) close() error {
	err := s.mongo.close()
	for _, k := range s.kafka {
		err = errors.Join(err, k.close())
	}
	return err
}
