package alerts_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// servers are those that all scenes share. Each scene reaches them by ways of its own, which
// can be cut without the others' noticing.
type servers struct {
	kafka *services.Kafka
	mongo *services.MongoDB
	// rolling is a MongoDB whose oplog is small and written all the time: it goes back for
	// some seconds.
	rolling *services.MongoDB
}

// startServers starts them; every scene has its way to Kafka.
func startServers(ctx context.Context, t *testing.T, scenes []*scene) servers {
	t.Helper()
	var o services.KafkaOptions
	for i, s := range scenes {
		s.kafka = proxy.ForTest(t, proxy.Kafka())
		s.listener = fmt.Sprintf("SCENE%d", i)
		o.Listeners = append(o.Listeners, services.KafkaListener{Name: s.listener, Protocol: "PLAINTEXT", Advertise: s.kafka.Address()})
	}
	all := servers{
		kafka: services.KafkaForTest(t, o), mongo: services.MongoDBForTest(t, services.MongoDBOptions{}),
		rolling: services.MongoDBForTest(t, services.MongoDBOptions{OplogMB: 8, Args: []string{"--syncdelay", "1"}}),
	}
	filler := connect(t, all.rolling.URI).Database("filler").Collection("filler")
	repeat(ctx, 200*time.Millisecond, func(n int) {
		_, _ = filler.ReplaceOne(ctx, bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "n", Value: n}, {Key: "filler", Value: strings.Repeat("x", 1<<19)}}, options.Replace().SetUpsert(true))
	})
	return all
}

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return client
}

// repeat calls do at intervals until ctx ends, in the background.
func repeat(ctx context.Context, interval time.Duration, do func(n int)) {
	go func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for n := 0; ; n++ {
			do(n)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
}

// scene is an installation of real processes with an outage of its own.
type scene struct {
	outage
	t       *testing.T
	servers servers
	site    harness.Site
	fhir    *fhirserver.Server
	client  *mongo.Client
	// kafka and mongo are the scene's ways to the servers, listener the broker's name of it.
	kafka, mongo *proxy.Proxy
	listener     string
	record       *recording

	mu      sync.Mutex
	daemons map[string]*harness.Daemon
}

// prepare makes the scene's ways and databases.
func (s *scene) prepare(ctx context.Context, t *testing.T, all servers) {
	t.Helper()
	s.t, s.servers, s.daemons = t, all, map[string]*harness.Daemon{}
	s.kafka.Forward(all.kafka.Listeners[s.listener])
	server := all.mongo
	if s.rolling {
		server = all.rolling
	}
	s.mongo = proxy.ForTest(t, proxy.MongoDB())
	s.mongo.Forward(hostOf(server.URI))
	s.site = harness.NewSite(t, direct(s.mongo.Address()), []string{s.kafka.Address()})
	s.client = connect(t, server.URI)
	s.fhir = fhirserver.New(s.client, fhirserver.Options{Databases: s.site.Databases})
	repeat(ctx, time.Second, func(n int) { _, _ = s.fhir.CreateConsent(ctx, fmt.Sprintf("con-%d", n)) })
}

// hostOf is the host and port of a connection string of one member.
func hostOf(uri string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(uri, "mongodb://"), "/")
	return host
}

// direct is a connection string of a member that is not called by its own name.
func direct(host string) string { return "mongodb://" + host + "/?directConnection=true" }

// start begins a life of a process.
func (s *scene) start(process string, changes ...string) *harness.Daemon {
	env := harness.With(s.site.Env(),
		"FHIR_CDC_INSTANCE", process, "FHIR_CDC_TOPICS_PARTITIONS", "1", "FHIR_CDC_SESSION_TIMEOUT", "6s",
		// An idle stream's position is to be young in stretched time too.
		"FHIR_CDC_CHECKPOINT_IDLE_INTERVAL", "2s", harness.EnvControlToken, harness.ControlToken)
	for i := 0; i+1 < len(s.env); i += 2 {
		env[s.env[i]] = strings.ReplaceAll(s.env[i+1], "{mongodb}", direct(hostOf(s.servers.mongo.URI)))
	}
	maps.Copy(env, pairs(changes))
	d := harness.Start(s.t, harness.Options{Env: env})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.daemons[process] = d
	return d
}

func pairs(list []string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m
}

// daemon is a process's present life, nil before its first.
func (s *scene) daemon(process string) *harness.Daemon {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.daemons[process]
}

// each calls do for every process that has begun.
func (s *scene) each(do func(process string, d *harness.Daemon)) {
	s.mu.Lock()
	all := maps.Clone(s.daemons)
	s.mu.Unlock()
	for process, d := range all {
		do(process, d)
	}
}

// ask is an answer of a process's status port, "" if there is none.
func ask(ctx context.Context, d *harness.Daemon, path string) string {
	const patience = 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-d.Done():
		return ""
	default:
	}
	address, err := d.StatusAddress(ctx)
	if err != nil {
		return ""
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return ""
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return ""
	}
	return string(text)
}

// scrape records what all processes say to the rules, until ctx ends.
func (s *scene) scrape(ctx context.Context, all []rulefmt.Rule) {
	s.record = newRecording(s.pace, all)
	repeat(ctx, s.record.interval(), func(int) {
		var asking sync.WaitGroup
		s.each(func(process string, d *harness.Daemon) {
			asking.Go(func() { s.record.add(process, ask(ctx, d, "/metrics")) })
		})
		asking.Wait()
	})
}

// until waits for a condition.
func until(ctx context.Context, what string, done func() bool) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		case <-ticker.C:
		}
	}
	return nil
}

// well waits until the scene's first process carries all streams and tells how far they
// are, and then until all others stand by.
func (s *scene) well(ctx context.Context) error {
	for i, process := range s.processes {
		d := s.daemon(process)
		if d == nil {
			d = s.start(process)
		}
		if err := until(ctx, process+" is ready", func() bool { return strings.HasPrefix(ask(ctx, d, "/readyz"), "ok") }); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		if err := until(ctx, process+" tells of its streams", func() bool {
			text := ask(ctx, d, "/metrics")
			return strings.Count(text, `state="running",stream=`) > 0 && strings.Count(text, "\nfhir_cdc_lag_seconds{") == strings.Count(text, `state="running",stream=`)
		}); err != nil {
			return err
		}
	}
	return nil
}

// oldest is the time of the oldest entry of the rolling oplog.
func (s *scene) oldest(ctx context.Context) time.Time {
	var entry struct{ TS bson.Timestamp }
	err := s.client.Database("local").Collection("oplog.rs").FindOne(ctx, bson.D{}, options.FindOne().SetSort(bson.D{{Key: "$natural", Value: 1}})).Decode(&entry)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(int64(entry.TS.T), 0)
}

// rollOver stops the scene's process and waits until its position is out of the oplog.
func (s *scene) rollOver(ctx context.Context, process string) error {
	if _, err := s.daemon(process).Stop(ctx); err != nil {
		return err
	}
	stopped := time.Now()
	return until(ctx, "the oplog has rolled over", func() bool { return s.oldest(ctx).After(stopped.Add(2 * time.Second)) })
}

// again starts a process anew whenever it ends, as an orchestrator does.
func (s *scene) again(ctx context.Context, process string) {
	go func() {
		for ctx.Err() == nil {
			if _, err := s.start(process).Wait(ctx); err != nil {
				return
			}
		}
	}()
}
