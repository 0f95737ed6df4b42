// Package e2e_test tests the built daemon from outside: documents go into a real
// MongoDB as the FHIR server writes them, and what a consumer reads from a real
// Kafka is compared with what the specification says, worked out from the
// documents anew.
package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// startTimeout is for the servers, a first download included.
	startTimeout = 10 * time.Minute
	// testTimeout is for one test; it is only reached by a test that fails.
	testTimeout = 90 * time.Second
)

func TestMain(m *testing.M) {
	code := harness.Main(m)
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "close the servers:", err)
	}
	os.Exit(code)
}

// servers are the MongoDB and the Kafka that the tests of this package share. Each
// test has databases and topics of its own.
type servers struct {
	once    sync.Once
	err     error
	mongoDB *services.MongoDB
	kafka   *services.Kafka
	client  *mongo.Client
}

var shared servers

// use starts the servers for the first test that needs them.
func (s *servers) use(t *testing.T) *servers {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the daemon beside a real MongoDB and a real Kafka")
	}
	s.once.Do(func() { s.err = s.start() })
	switch {
	case errors.Is(s.err, services.ErrUnavailable) && os.Getenv("CI") != "true":
		t.Skip(s.err)
	case s.err != nil:
		t.Fatal(s.err)
	}
	return s
}

func (s *servers) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		s.mongoDB, err = services.StartMongoDB(ctx, services.MongoDBOptions{})
		return err
	})
	group.Go(func() (err error) {
		// A broker of its own: some tests use the daemon's default name and topics.
		s.kafka, err = services.StartKafka(ctx, services.KafkaOptions{NeedControl: true})
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	var err error
	s.client, err = mongo.Connect(options.Client().ApplyURI(s.mongoDB.URI))
	return err
}

func (s *servers) close() error {
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
