// Package e2e_test tests the built daemon from outside: documents go into a real
// MongoDB as the FHIR server writes them, and what a consumer reads from a real
// Kafka is compared with what the specification says, worked out from the
// documents anew.
package e2e_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// testTimeout is for one test; it is only reached by a test that fails.
const testTimeout = 5 * time.Minute

// oplogAge is longer than a test's span begins before the test.
const oplogAge = 3 * time.Second

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// servers are the MongoDB and the Kafka that the tests of this package share. Each
// test has databases and topics of its own.
type servers struct {
	mongoDB *services.MongoDB
	kafka   *services.Kafka
	client  *mongo.Client
}

var (
	shared  servers
	starter = services.Share("a MongoDB server and a Kafka broker", func(ctx context.Context) (*servers, error) { return &shared, shared.start(ctx) })
)

// use starts the servers for the first test that needs them.
func (s *servers) use(t *testing.T) *servers {
	t.Helper()
	return starter.ForTest(t)
}

func (s *servers) start(ctx context.Context) error {
	group, starting := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		s.mongoDB, err = services.StartMongoDB(starting, services.MongoDBOptions{})
		return err
	})
	group.Go(func() (err error) {
		// A broker of its own: some tests use the daemon's default name and topics.
		s.kafka, err = services.StartKafka(starting, services.KafkaOptions{NeedControl: true})
		return err
	})
	err := group.Wait()
	// The spans of tests begin up to two seconds before the test: the oplog has to reach back so far.
	select {
	case <-time.After(oplogAge):
	case <-ctx.Done():
	}
	if err == nil {
		s.client, err = mongo.Connect(options.Client().ApplyURI(s.mongoDB.URI))
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Close ends whatever was started.
func (s *servers) Close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Disconnect(context.Background()))
	}
	if s.mongoDB != nil {
		errs = append(errs, s.mongoDB.Close())
	}
	if s.kafka != nil {
		errs = append(errs, s.kafka.Close())
	}
	return errors.Join(errs...)
}
