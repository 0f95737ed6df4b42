// Package faults_test proves what the daemon promises when things go wrong: the
// built binary is killed, told to stop and frozen, servers are stopped under it,
// cursors die, all while a FHIR server writes; then what a consumer has read is
// compared with what was written.
//
// FHIR_CDC_TEST_SEED repeats a run's random choices. FHIR_CDC_TEST_SOAK
// makes every test ten times as long, and `make soak` repeats the kills for the time that
// it names.
package faults_test

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

const (
	// envSeed repeats a run, envSoak makes it longer and says how long the kills go on.
	envSeed, envSoak = "FHIR_CDC_TEST_SEED", "FHIR_CDC_TEST_SOAK"
	// soakFactor is how much more a soak writes, soakKills how much more it kills.
	soakFactor, soakKills = 10, 5
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// testTimeout is for one test; it is only reached by a test that fails.
const testTimeout = 12 * time.Minute

// long bounds a test.
func long(t *testing.T) context.Context {
	t.Helper()
	limit := testTimeout
	if soaking() {
		limit *= soakFactor
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func soaking() bool { return os.Getenv(envSoak) != "" }

// scaled is n, or n times the factor in a soak.
func scaled(n, factor int) int {
	if soaking() {
		return n * factor
	}
	return n
}

// seed is the test's own: it differs from test to test, but a test that is run
// alone gets what it had among others. round tells repetitions apart.
func seed(t *testing.T, round int) uint64 {
	t.Helper()
	base := uint64(time.Now().UnixNano())
	if text := os.Getenv(envSeed); text != "" {
		var err error
		if base, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
	}
	t.Logf("seed %d (repeat with %s=%d)", base, envSeed, base)
	name := fnv.New64a()
	_, _ = name.Write([]byte(t.Name() + strconv.Itoa(round))) // never fails
	return base ^ name.Sum64()
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// between is a random time from a to b.
func between(random *rand.Rand, a, b time.Duration) time.Duration {
	return a + time.Duration(random.Int64N(int64(b-a)+1))
}

// pass lets time go by: the length of an outage is part of what is tested. It ends
// early, with an error, when ctx does.
func pass(ctx context.Context, d time.Duration) error {
	return wait.Sleep(ctx, d)
}

// errEnded is the cause of a context whose daemon has ended.
var errEnded = errors.New("the daemon has ended by itself")

// whileAlive is a context that ends with any of the daemons.
func whileAlive(ctx context.Context, daemons ...*harness.Daemon) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	for _, d := range daemons {
		go func() {
			select {
			case <-d.Done():
				cancel(errEnded)
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

// connect is the FHIR server's connection to MongoDB.
func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("fhir-server"))
	if err != nil {
		t.Fatalf("connect to MongoDB: %v", err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client
}

// keepLogs keeps the daemons' logs of a failed test and says where: a seed does
// not repeat what the machine did.
func keepLogs(t *testing.T, daemons func() []*harness.Daemon) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		dir, err := os.MkdirTemp("", "fhir-cdc-faults-")
		if err != nil {
			t.Errorf("keep logs: %v", err)
			return
		}
		for i, d := range daemons() {
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)+".log"), []byte(d.Logs()), 0o600); err != nil {
				t.Errorf("keep logs: %v", err)
			}
		}
		t.Logf("the logs of the daemons are kept in %s", dir)
	})
}
