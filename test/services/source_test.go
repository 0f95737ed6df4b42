package services

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestFromFirstAsksInOrder(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name                  string
		only                  string
		env, docker, packages error
		want                  string
		wantErr               error
	}{
		{name: "the first that has one", want: sourceEnv},
		{name: "the next if it has none", env: ErrUnavailable, want: sourceDocker},
		{name: "the last", env: ErrUnavailable, docker: ErrUnavailable, want: sourcePackages},
		{name: "none", env: ErrUnavailable, docker: ErrUnavailable, packages: ErrUnavailable, wantErr: ErrUnavailable},
		{name: "a fault is not covered", env: ErrUnavailable, docker: broken, wantErr: broken},
		{name: "only one allowed", only: sourcePackages, want: sourcePackages},
		{name: "only one allowed, and it has none", only: sourceDocker, docker: ErrUnavailable, wantErr: ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(EnvSource, tt.only)
			open := func(source string, err error) func(context.Context) (string, error) {
				return func(context.Context) (string, error) { return source, err }
			}
			got, err := fromFirst(t.Context(), "server", map[string]func(context.Context) (string, error){
				sourceEnv:      open(sourceEnv, tt.env),
				sourceDocker:   open(sourceDocker, tt.docker),
				sourcePackages: open(sourcePackages, tt.packages),
			})
			if !errors.Is(err, tt.wantErr) || got != tt.want {
				t.Fatalf("got %q, %v; want %q, %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestUnknownSourceIsAnError(t *testing.T) {
	t.Setenv(EnvSource, "cloud")
	if _, err := sources(); err == nil || errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v, want an error other than ErrUnavailable", err)
	}
}

// A version that is asked for is not answered with another one.
func TestNamedImageThatCannotBeHad(t *testing.T) {
	t.Setenv(EnvSource, "")
	t.Setenv(EnvMongoDBURI, "")
	t.Setenv(EnvMongoDBImage, "Not an image")
	m, err := StartMongoDB(t.Context(), MongoDBOptions{})
	if err == nil {
		_ = m.Close()
	}
	if err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), EnvMongoDBImage+"=Not an image") {
		t.Errorf("got %v", err)
	}
}

func TestGivenAddressIsNotUsedWithSpecialOptions(t *testing.T) {
	t.Setenv(EnvSource, sourceEnv)
	t.Setenv(EnvMongoDBURI, "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1")
	t.Setenv(EnvKafkaBrokers, "127.0.0.1:1")
	for _, opts := range []MongoDBOptions{
		{NeedControl: true}, {TestCommands: true}, {OplogMB: 1}, {CacheGB: 1}, {Standalone: true}, {Auth: true}, {Dir: "d"}, {Args: []string{"a"}},
	} {
		if _, err := StartMongoDB(t.Context(), opts); !errors.Is(err, ErrUnavailable) {
			t.Errorf("MongoDB with %+v: got %v, want ErrUnavailable", opts, err)
		}
	}
	for _, opts := range []KafkaOptions{
		{NeedControl: true}, {TransactionVersion: 1}, {HeapMB: 1}, {Properties: map[string]string{"a": "b"}}, {Listeners: []KafkaListener{{}}},
	} {
		if _, err := StartKafka(t.Context(), opts); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Kafka with %+v: got %v, want ErrUnavailable", opts, err)
		}
	}
}

func TestGivenAddressThatDoesNotAnswerIsAFault(t *testing.T) {
	t.Setenv(EnvSource, sourceEnv)
	t.Setenv(EnvMongoDBURI, "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1")
	if _, err := StartMongoDB(t.Context(), MongoDBOptions{}); err == nil || errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v, want an error other than ErrUnavailable", err)
	}
}

func TestServerByAddressCantBeControlled(t *testing.T) {
	s := &Server{}
	for name, do := range map[string]func(context.Context) error{"Stop": s.Stop, "Start": s.Start, "Restart": s.Restart, "Kill": s.Kill} {
		if err := do(t.Context()); !errors.Is(err, ErrNoControl) {
			t.Errorf("%s: got %v, want ErrNoControl", name, err)
		}
	}
	if s.CanControl() || s.Pid() != 0 || s.Log() != "" || s.Close() != nil {
		t.Error("a server that is not ours has a process or a log")
	}
}

func TestReservedPortsAreGivenOnce(t *testing.T) {
	t.Setenv("FHIR_CDC_CACHE", t.TempDir())
	var all []int
	for range 50 {
		ports, release, err := reservePorts(3)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		all = append(all, ports...)
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 150 {
		t.Fatalf("%d different ports, want 150", n)
	}
}

// notToStart is an instance that must not be started.
type notToStart struct {
	instance
	t *testing.T
}

func (i notToStart) start(context.Context) error {
	i.t.Error("a server was started")
	return nil
}

// Under -short a test that needs a server is skipped, and a start that it makes by itself
// is an error.
func TestShortStartsNothing(t *testing.T) {
	short := testing.Short()
	if err := flag.Set("test.short", "true"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set("test.short", strconv.FormatBool(short)) })
	if err := (&Server{inst: notToStart{t: t}}).Start(t.Context()); !errors.Is(err, errShort) {
		t.Errorf("start: %v", err)
	}
	never := func(context.Context) (*MongoDB, error) { return nil, errors.New("a server was started") }
	shared := Share("a server", never)
	for name, get := range map[string]func(testing.TB){
		"MongoDB":     func(t testing.TB) { MongoDBForTest(t, MongoDBOptions{}) },
		"replica set": func(t testing.TB) { ReplicaSetForTest(t, 3, MongoDBOptions{}) },
		"Kafka":       func(t testing.TB) { KafkaForTest(t, KafkaOptions{}) },
		"sharded":     func(t testing.TB) { ShardedForTest(t) },
		"cluster":     func(t testing.TB) { KafkaClusterForTest(t, 3, KafkaOptions{}) },
		"any":         func(t testing.TB) { ForTest(t, "a server", never) },
		"shared":      func(t testing.TB) { shared.ForTest(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() {
				if !t.Skipped() {
					t.Error("not skipped")
				}
			})
			get(t)
		})
	}
}
