package services

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"
)

// startForTest is how long a test waits for a server, a first download included.
const startForTest = 10 * time.Minute

// Needs leaves a test out of the quick ones (go test -short) that needs a program beside
// itself: a server, a browser, the built daemon.
func Needs(t testing.TB, program string) {
	t.Helper()
	if testing.Short() {
		t.Skipf("needs %s, which -short does not start", program)
	}
}

// errShort is the error of a start that no call of Needs came before.
var errShort = errors.New("a test starts a server although -short is set: get it by a function of package services that ends in ForTest")

// MongoDBForTest gives a test a MongoDB that is closed when the test ends. Where
// none can be had, the test is skipped with the reason, or fails if CI=true is
// set. A failed test leaves the server's log behind and says where.
func MongoDBForTest(t testing.TB, opts MongoDBOptions) *MongoDB {
	t.Helper()
	m := ForTest(t, "a MongoDB server", func(ctx context.Context) (*MongoDB, error) { return StartMongoDB(ctx, opts) })
	t.Cleanup(func() { closeForTest(t, "MongoDB", m.Server) })
	return m
}

// KafkaForTest gives a test a Kafka as MongoDBForTest gives a MongoDB.
func KafkaForTest(t testing.TB, opts KafkaOptions) *Kafka {
	t.Helper()
	k := ForTest(t, "a Kafka broker", func(ctx context.Context) (*Kafka, error) { return StartKafka(ctx, opts) })
	t.Cleanup(func() { closeForTest(t, "Kafka", k.Server) })
	return k
}

// ForTest starts for a test a server that the test closes itself; program names it for
// the tests that are skipped without it: "a Kafka broker". Where it cannot be had, it
// does as MongoDBForTest.
func ForTest[S any](t testing.TB, program string, start func(context.Context) (S, error)) S {
	t.Helper()
	Needs(t, program)
	ctx, cancel := context.WithTimeout(t.Context(), startForTest)
	defer cancel()
	server, err := start(ctx)
	check(t, err)
	return server
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

// Shared is a server that the tests of a package share, each with databases and topics
// of its own. The first test that needs it starts it, and Main ends it.
type Shared[S io.Closer] struct {
	program string
	start   func(context.Context) (S, error)

	once   sync.Once
	server S
	err    error
}

// Share makes a Shared of the start of a server, which program names as for ForTest.
func Share[S io.Closer](program string, start func(context.Context) (S, error)) *Shared[S] {
	return &Shared[S]{program: program, start: start}
}

// ForTest is the server. Where it cannot be had, the test is skipped or fails as with
// MongoDBForTest.
func (s *Shared[S]) ForTest(t testing.TB) S {
	t.Helper()
	Needs(t, s.program)
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startForTest)
		defer cancel()
		if s.server, s.err = s.start(ctx); s.err == nil {
			started.add(s.server)
		}
	})
	check(t, s.err)
	return s.server
}

// started are the shared servers of this process.
//
//nolint:gochecknoglobals // a test process has one list, which Main closes.
var started closers

type closers struct {
	mu   sync.Mutex
	list []io.Closer
}

func (c *closers) add(server io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, server)
}

// Main runs the tests of a package, ends the servers that they shared, and returns the
// exit code.
func Main(m *testing.M) int {
	code := m.Run()
	for _, server := range started.list {
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close a server that tests shared:", err)
		}
	}
	return code
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
