// Package security_test runs the built daemon beside a real mongod and a real Kafka
// broker that ask for a login: what every kind of login needs, what a refused one
// looks like, which rights the daemon needs and no more, that secrets can change
// under it, and that nothing of secrets or of documents is shown anywhere.
//
// One mongod and one broker with a listener for each kind of login serve all tests;
// each test has databases, topics and users of its own. The certificates and the
// token endpoint are made here.
package security_test

import (
	"context"
	"crypto/tls"
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
	testTimeout = 5 * time.Minute
)

func TestMain(m *testing.M) {
	code := harness.Main(m)
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "close the servers:", err)
	}
	os.Exit(code)
}

// servers are what the tests of this package share.
type servers struct {
	once sync.Once
	err  error

	files    *files
	identity *identity
	mongoDB  *services.MongoDB
	kafka    *services.Kafka
	// client is of a user that may do everything.
	client *mongo.Client
	// cutting is held by who cuts connections of MongoDB.
	cutting sync.Mutex
}

var shared servers

// use starts the servers for the first test that needs them.
func (s *servers) use(t *testing.T) *servers {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the daemon beside a real MongoDB and a real Kafka that ask for a login")
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
	var err error
	if s.files, err = newFiles(); err != nil {
		return err
	}
	if s.identity, err = newIdentity(s.files); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.startMongoDB(ctx) })
	group.Go(func() error { return s.startKafka(ctx) })
	return group.Wait()
}

func (s *servers) startMongoDB(ctx context.Context) error {
	ours := &tls.Config{RootCAs: s.files.authority.pool(), MinVersion: tls.VersionTLS12}
	var err error
	s.mongoDB, err = services.StartMongoDB(ctx, services.MongoDBOptions{
		Auth: true, TLS: ours, TestCommands: true, // to cut connections
		Args: []string{
			"--tlsMode", "requireTLS", "--tlsCertificateKeyFile", s.files.path("mongod.pem"), "--tlsCAFile", s.files.path("ca.pem"),
			"--tlsAllowConnectionsWithoutCertificates", "--setParameter", "authenticationMechanisms=SCRAM-SHA-1,SCRAM-SHA-256,MONGODB-X509",
		},
	})
	if err != nil {
		return err
	}
	s.client, err = mongo.Connect(options.Client().ApplyURI(s.mongoDB.URI).SetTLSConfig(ours))
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
	if s.identity != nil {
		s.identity.close()
	}
	if s.files != nil {
		errs = append(errs, os.RemoveAll(s.files.dir))
	}
	return errors.Join(errs...)
}
