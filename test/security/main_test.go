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

// testTimeout is for one test; it is only reached by a test that fails.
const testTimeout = 5 * time.Minute

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// servers are what the tests of this package share.
type servers struct {
	files    *files
	identity *identity
	mongoDB  *services.MongoDB
	kafka    *services.Kafka
	// client is of a user that may do everything.
	client *mongo.Client
	// cutting is held by who cuts connections of MongoDB.
	cutting sync.Mutex
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
	var err error
	if s.files, err = newFiles(); err != nil {
		return err
	}
	if s.identity, err = newIdentity(s.files); err != nil {
		return err
	}
	group, starting := errgroup.WithContext(ctx)
	group.Go(func() error { return s.startMongoDB(starting) })
	group.Go(func() error { return s.startKafka(starting) })
	if err := group.Wait(); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
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
	if s.identity != nil {
		s.identity.close()
	}
	if s.files != nil {
		errs = append(errs, os.RemoveAll(s.files.dir))
	}
	return errors.Join(errs...)
}
