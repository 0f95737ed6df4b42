package faults_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// startTimeout is for the servers, a first download included.
const startTimeout = 10 * time.Minute

// servers are the MongoDB and the Kafka that tests share which leave them alone.
// Each test has databases and topics of its own.
type servers struct {
	once  sync.Once
	err   error
	mongo *services.MongoDB
	kafka *services.Kafka
}

var shared servers

// sharedServers starts the servers for the first test that needs them.
func sharedServers(t *testing.T) (mongoURI string, brokers []string) {
	t.Helper()
	shared.once.Do(func() { shared.err = shared.start() })
	switch {
	case errors.Is(shared.err, services.ErrUnavailable) && os.Getenv("CI") != "true":
		t.Skip(shared.err)
	case shared.err != nil:
		t.Fatal(shared.err)
	}
	return shared.mongo.URI, shared.kafka.Brokers
}

func (s *servers) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		// With failpoints, for TestCursors; they are set for one client each.
		s.mongo, err = services.StartMongoDB(ctx, services.MongoDBOptions{TestCommands: true})
		return err
	})
	g.Go(func() (err error) {
		s.kafka, err = services.StartKafka(ctx, services.KafkaOptions{})
		return err
	})
	return g.Wait()
}

// close ends what was started.
func (s *servers) close() error {
	var errs []error
	if s.mongo != nil {
		errs = append(errs, s.mongo.Close())
	}
	if s.kafka != nil {
		errs = append(errs, s.kafka.Close())
	}
	return errors.Join(errs...)
}
