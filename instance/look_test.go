package instance

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/wait"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// hangs is a server that does not answer.
func hangs(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func answers(context.Context) error { return nil }

func fails(err error) func(context.Context) error { return func(context.Context) error { return err } }

// login is what MongoDB says to a login that it refuses.
func login() error {
	return &watcher.Error{Class: watcher.Unauthorized, Err: mongo.CommandError{Code: 18}}
}

// lookedAt is a look at streams a and b, which stand by.
func lookedAt(a, b, kafka func(context.Context) error) *look {
	l := &look{cfg: &config.Config{}, clients: installation.NewClients("look"), kafka: kafka, log: zap.NewNop()}
	l.cfg.Retry.MinBackoff, l.cfg.Retry.MaxBackoff = time.Second, time.Second
	for name, probe := range map[string]func(context.Context) error{"a": a, "b": b} {
		refused := func() (daemon.Publisher, error) { return nil, login() }
		stream := daemon.NewStream(daemon.Options{Name: name}, daemon.Parts{Source: unread{}, Mapper: mapper.New(mapper.Config{}), Publish: refused}, zap.NewNop())
		l.at = append(l.at, &lookAt{name: name, streams: []*daemon.Stream{stream}, probe: probe})
	}
	return l
}

// unread is a change stream that nobody opens.
type unread struct{ daemon.Source }

func (unread) OpenCursors() int64 { return 0 }

// progress is a stream's.
func (l *look) progress(name string) daemon.Progress {
	for _, at := range l.at {
		if at.name == name {
			return at.streams[0].Progress()
		}
	}
	return daemon.Progress{}
}

// One cluster that hangs keeps no process from starting that another one answers, and says
// nothing of the streams that lie there.
func TestFirstLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lookedAt(answers, hangs, nil)
		if err := l.first(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := l.progress("a"); !p.Broken.IsZero() || p.LastError != "" {
			t.Errorf("a is broken since %v: %s", p.Broken, p.LastError)
		}
		if p := l.progress("b"); p.Broken.IsZero() || p.LastError == "" {
			t.Error("b does not say that its cluster is away")
		}
		want := replicas.Abilities{1: replicas.Away}
		if got := l.abilities(map[string]int32{"a": 0, "b": 1}); !maps.Equal(got, want) {
			t.Errorf("abilities %v, want %v", got, want)
		}

		l = lookedAt(answers, answers, nil)
		l.at[0].reads = append(l.at[0].reads, hangs) // the history's cluster
		if err := l.first(t.Context()); err != nil {
			t.Fatal(err)
		}
		l = lookedAt(hangs, fails(login()), nil)
		if err := l.first(t.Context()); !loginRefused(err) {
			t.Errorf("%v, want that the login is refused", err)
		}
		limited, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := lookedAt(hangs, hangs, nil).first(limited); err != nil || limited.Err() == nil {
			t.Errorf("a process without any MongoDB has not waited: %v", err)
		}
	})
}

// What a stand-by tells the group.
func TestLookAgain(t *testing.T) {
	partitions := map[string]int32{"a": 0, "b": 1}
	for _, test := range []struct {
		name        string
		a, b, kafka func(context.Context) error
		want        replicas.Abilities
	}{
		{"all is well", answers, answers, answers, replicas.Abilities{}},
		{"a cluster hangs", answers, hangs, answers, replicas.Abilities{1: replicas.Away}},
		{"a login is refused", fails(login()), hangs, answers, replicas.Abilities{0: replicas.Unable, 1: replicas.Away}},
		{"the brokers are away", answers, answers, hangs, replicas.Abilities{}},
		{"the brokers refuse", answers, answers, fails(&publisher.ConfigurationError{Err: errors.New("no topic")}), replicas.Abilities{0: replicas.Unable, 1: replicas.Unable}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var got replicas.Abilities
				err := lookedAt(test.a, test.b, test.kafka).again(ctx, partitions, func(a replicas.Abilities) { got = a; cancel() })
				if err != nil || !maps.Equal(got, test.want) {
					t.Errorf("%v, %v; want %v", got, err, test.want)
				}
			})
		})
	}
}

// A look is judged by the secrets as they are now, while the process carries a stream with
// those that it was started with.
func TestLookReadsSecretsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, err := config.Load(config.LoadOptions{Environ: []string{"ENABLE_EVENTS_KAFKA=1", "KAFKA_URLS=b:1", "MONGO_URL=mongodb://db/?tls=true&tlsCertificateKeyFile=/c.pem"}})
		if err != nil {
			t.Fatal(err)
		}
		l := lookedAt(fails(login()), answers, answers)
		l.cfg = cfg
		carried := lookedAt(answers, answers, nil).at[0]
		carried.name = "c"
		if err := carried.streams[0].Run(t.Context()); err == nil {
			t.Fatal("the stream stands by")
		}
		l.at = append(l.at, carried)
		l.anew = func(context.Context) (*look, error) {
			next := lookedAt(answers, answers, answers)
			next.cfg = cfg
			return next, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got replicas.Abilities
		if err := l.again(ctx, map[string]int32{"a": 0, "b": 1}, func(a replicas.Abilities) { got = a; cancel() }); err != nil || len(got) > 0 {
			t.Errorf("%v, %v; want that it is able", got, err)
		}
	})
}

// Many collections are read several at once, each for a time of its own, and not again with
// each look.
func TestReadAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		at := lookedAt(answers, answers, nil).at[0]
		for range 600 {
			at.reads = append(at.reads, func(ctx context.Context) error {
				asked.Add(1)
				return wait.Sleep(ctx, questionTime/2)
			})
		}
		for range 2 {
			at.look(t.Context())
			if at.err != nil {
				t.Fatal(at.err)
			}
		}
		if n := asked.Load(); n != 600 {
			t.Errorf("%d questions, want 600", n)
		}
		at.reads = append(at.reads, fails(errors.New("no primary")))
		time.Sleep(readPause) //nolint:forbidigo // the bubble's clock.
		at.look(t.Context())
		if at.err == nil || !strings.Contains(at.err.Error(), "no primary") || at.away.IsZero() {
			t.Errorf("%v, away since %v", at.err, at.away)
		}
	})
}

// Each stream asks for its own collections, where they lie.
func TestReadBy(t *testing.T) {
	cfg, err := config.Load(config.LoadOptions{Environ: []string{
		"ENABLE_EVENTS_KAFKA=1", "KAFKA_URLS=b:1", "MONGO_URL=mongodb://main", "MONGO_DB_NAME=fhir", "KAFKA_ENABLED_RESOURCES=Consent",
		"RESOURCE_HISTORY_MONGO_URL=mongodb://history", "AUDIT_EVENT_MONGO_URL=mongodb://audit", "ACCESS_LOGS_CLUSTER_MONGO_URL=mongodb://access",
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range installation.Plan(cfg) {
		hosts := map[string]bool{}
		for _, c := range installation.CollectionsRead(cfg, p) {
			host, _, _ := strings.Cut(strings.TrimPrefix(c.Place.URI.Reveal(), "mongodb://"), "/")
			hosts[host] = true
		}
		want := map[string]map[string]bool{
			config.StreamMain:        {"main": true, "history": true},
			config.StreamAuditEvents: {"audit": true, "main": true},
			config.StreamAccessLogs:  {"access": true, "main": true},
		}[p.Name]
		if !maps.Equal(hosts, want) {
			t.Errorf("%s reads from %v, want %v", p.Name, hosts, want)
		}
	}
}

// A start that begins anew says nothing of the group that the one before was in.
func TestProcessStateBeginsAnew(t *testing.T) {
	b := &processState{}
	b.joined(&replicas.Member{}, func(context.Context) (map[string]string, error) { return map[string]string{"main": "one"}, nil })
	b.show(nil, installation.StreamFacts{})
	if owners, err := b.ownersOf(t.Context()); err != nil || len(owners) > 0 || b.membership() != nil {
		t.Errorf("owners %v, %v, member %v", owners, err, b.membership())
	}
}
