package services

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// startForTest is how long a test waits for a server, a first download included.
const startForTest = 10 * time.Minute

// MongoDBForTest gives a test a MongoDB that is closed when the test ends. Where
// none can be had, the test is skipped with the reason, or fails if CI=true is
// set. A failed test leaves the server's log behind and says where.
func MongoDBForTest(t testing.TB, opts MongoDBOptions) *MongoDB {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startForTest)
	defer cancel()
	m, err := StartMongoDB(ctx, opts)
	check(t, err)
	t.Cleanup(func() { closeForTest(t, "MongoDB", m.Server) })
	return m
}

// KafkaForTest gives a test a Kafka that is closed when the test ends. Where
// none can be had, the test is skipped with the reason, or fails if CI=true is
// set. A failed test leaves the broker's log behind and says where.
func KafkaForTest(t testing.TB, opts KafkaOptions) *Kafka {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startForTest)
	defer cancel()
	k, err := StartKafka(ctx, opts)
	check(t, err)
	t.Cleanup(func() { closeForTest(t, "Kafka", k.Server) })
	return k
}

func check(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

func closeForTest(t testing.TB, name string, s *Server) {
	t.Helper()
	keep := t.Failed() && s.CanControl()
	if keep {
		t.Logf("the log of %s is kept: %s", name, s.Log())
	}
	if err := s.close(keep); err != nil {
		t.Errorf("close %s: %v", name, err)
	}
}

// PortsForTest gives a test free ports of this machine for servers that it starts
// itself. No other test gets them until it ends, also while nothing listens on them.
func PortsForTest(t testing.TB, n int) []int {
	t.Helper()
	ports, release, err := reservePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return ports
}
