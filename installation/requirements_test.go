package installation

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// loaded is the configuration beside a FHIR server that has all kinds switched on.
func loaded(t *testing.T, more ...string) *config.Config {
	t.Helper()
	cfg, err := config.Load(config.LoadOptions{Environ: append([]string{
		"MONGO_URL=mongodb://db:27017", "KAFKA_URLS=k:9092", "AUDIT_EVENT_MONGO_DB_NAME=audit", "ACCESS_LOGS_MONGO_DB_NAME=access",
		"ENABLE_EVENTS_KAFKA=1", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS=1", "KAFKA_ENABLED_RESOURCES=Consent",
	}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// What the brokers must have depends on where events and positions go.
func TestRequirements(t *testing.T) {
	for name, test := range map[string]struct {
		environ   []string
		positions bool
		ids       []string
	}{
		"positions in Kafka":         {nil, true, []string{"fhir-cdc/main"}},
		"a stream of its own":        {[]string{"FHIR_CDC_STREAMS=[{name: consents, resources: [Consent]}]"}, true, []string{"fhir-cdc/main", "fhir-cdc/consents"}},
		"positions in MongoDB":       {[]string{"FHIR_CDC_CHECKPOINT_STORE=mongodb", "FHIR_CDC_DELIVERY=at_least_once"}, false, nil},
		"positions in a file":        {[]string{"FHIR_CDC_CHECKPOINT_STORE=file", "FHIR_CDC_DELIVERY=at_least_once"}, false, nil},
		"positions nowhere: a trial": {[]string{"FHIR_CDC_SINK=stdout"}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := loaded(t, test.environ...)
			o, err := Open(cfg, nil, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			need := o.Sink.streamRequirements()
			if (need.Positions != "") != test.positions || !slices.Equal(need.TransactionalIDs, test.ids) {
				t.Errorf("positions in %q, transactional ids %q; want %v, %q", need.Positions, need.TransactionalIDs, test.positions, test.ids)
			}
			for i, topic := range o.Sink.Requirements("p.").Events {
				if topic != "p."+need.Events[i] {
					t.Errorf("topic %q with a prefix, %q without", topic, need.Events[i])
				}
			}
		})
	}
}

// Every home of positions that the configuration takes is one, and no other.
func TestEveryStore(t *testing.T) {
	cfg := loaded(t)
	for _, store := range append(config.Values("checkpoint.store"), "unknown") {
		cfg.Checkpoint.Store = config.CheckpointStore(store)
		o, err := Open(cfg, nil, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		keeper, err := o.Sink.Store("main")
		if (err == nil) != (store != "unknown") {
			t.Errorf("%s: %v", store, err)
		}
		if err == nil {
			if err := keeper.Close(t.Context()); err != nil {
				t.Errorf("%s: %v", store, err)
			}
		}
		o.Clients.Disconnect(t.Context(), &err)
	}
}

// Each collection that a stream's look-ups and positions need is read before the stream is
// taken, those of another cluster last.
func TestCollectionsRead(t *testing.T) {
	cfg := loaded(t, "AUDIT_EVENT_MONGO_URL=mongodb://audit:27017", "FHIR_CDC_CHECKPOINT_STORE=mongodb", "FHIR_CDC_DELIVERY=at_least_once")
	all := map[string][]string{}
	for _, p := range Plan(cfg) {
		for _, c := range CollectionsRead(cfg, p) {
			all[p.Name] = append(all[p.Name], c.String())
		}
		if len(p.Feeds) == 0 {
			t.Errorf("stream %s reads nothing", p.Name)
		}
	}
	home, _ := cfg.PositionsInMongoDB()
	positions := home.Database + "." + home.Collection
	for stream, want := range map[string][]string{
		config.StreamMain:       {"fhir.Consent_4_0_0", "fhir.Consent_4_0_0_History", positions},
		config.StreamAccessLogs: {"audit.AuditEvent_4_0_0", "fhir.Person_4_0_0", positions},
	} {
		for _, collection := range want {
			if !slices.Contains(all[stream], collection) {
				t.Errorf("stream %s does not read %s, only %q", stream, collection, all[stream])
			}
		}
	}
	if read := all[config.StreamAccessLogs]; len(read) > 0 && read[len(read)-1] != "fhir.Person_4_0_0" {
		t.Errorf("the persons, on another cluster, are not last: %q", read)
	}
}

// A repair reads nothing that is not looked at before, whatever else is switched off.
func TestRepairReadsWhatIsLookedAt(t *testing.T) {
	for _, more := range [][]string{nil, {"FHIR_CDC_FACTS_REQUEST_ID=false"}, {"RESOURCE_HISTORY_MONGO_DB_NAME=history", "ENABLE_BULK_EXPORT_KAFKA_EVENTS=1"}} {
		cfg := loaded(t, more...)
		o := &Installation{Config: cfg, Plan: Plan(cfg), Clients: NewClients("test")}
		histories := 0
		for _, p := range o.Plan {
			looked := map[string]bool{}
			for _, c := range CollectionsRead(cfg, p) {
				looked[c.String()] = true
			}
			for _, form := range []mapper.Form{mapper.Current, mapper.History} {
				scanned, err := o.ScannedCollections(p, mapper.New(p.Mapper), form)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range scanned {
					if !looked[s.Name()] {
						t.Errorf("%q: stream %s reads %s in a repair, and looks at %v only", more, p.Name, s.Name(), looked)
					}
					if form == mapper.History {
						histories++
					}
				}
			}
		}
		if histories != 2 { // of Consent, in two FHIR versions
			t.Errorf("%q: %d histories", more, histories)
		}
		var err error
		o.Clients.Disconnect(t.Context(), &err)
	}
	stops := loaded(t, "FHIR_CDC_FACTS_REQUEST_ID=false", "FHIR_CDC_REPAIR_ON_HISTORY_LOST=stop")
	if read := HistoriesRead(stops, mapper.New(stops.MapperConfig())); read != nil {
		t.Errorf("without look-ups and repairs these are read: %v", read)
	}
	beside := loaded(t, "FHIR_CDC_REPAIR_ON_HISTORY_LOST=stop", "ENABLE_SSE_KAFKA_EVENTS=1", "SSE_ENABLED_RESOURCES=Patient")
	for _, read := range HistoriesRead(beside, mapper.New(beside.MapperConfig())) {
		if read.Resource != "Consent" {
			t.Errorf("without repairs %s is read, which has no request ids to look up", read.StoredIn)
		}
	}
	links := loaded(t, "FHIR_CDC_FACTS_REQUEST_ID=false", "FHIR_CDC_REPAIR_ON_HISTORY_LOST=stop", "ENABLE_PERSON_PATIENT_MANUAL_LINKING_KAFKA_EVENTS=1")
	if read := HistoriesRead(links, mapper.New(links.MapperConfig())); len(read) != 1 || read[0].StoredIn != "Person_4_0_0_History" {
		t.Errorf("person link events read %v", read)
	}
}

// What somebody has to change is told from what passes.
func TestMisconfigured(t *testing.T) {
	for name, test := range map[string]struct {
		err                    error
		misconfigured, refused bool
	}{
		"none":            {nil, false, false},
		"usage":           {fmt.Errorf("wrapped: %w", Usagef("--x %d", 1)), true, true},
		"brokers":         {&publisher.ConfigurationError{}, true, true},
		"lost history":    {&watcher.Error{Class: watcher.HistoryLost}, false, true},
		"a login":         {&watcher.Error{Class: watcher.Unauthorized, Err: mongo.CommandError{Code: 18}}, true, true},
		"Kafka's login":   {kerr.SaslAuthenticationFailed, false, true},
		"a server's rest": {errors.New("connection refused"), false, false},
	} {
		if m, r := Misconfigured(test.err), IsRefused(test.err); m != test.misconfigured || r != test.refused {
			t.Errorf("%s: misconfigured %v, refused %v; want %v, %v", name, m, r, test.misconfigured, test.refused)
		}
	}
}

// Replicas share streams under one configuration only of what they must have in common.
func TestReplicaConfiguration(t *testing.T) {
	of := func(partitions int, more ...string) string {
		cfg := loaded(t, more...)
		same, err := ReplicaConfiguration(cfg, Plan(cfg), partitions)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(same)
	}
	want := of(12)
	// Replicas of this build share streams with those of the last one while this value is the same.
	// Another one is a change of the pipeline or the events, or a renamed field of mapper.Config; tell
	// of it in CHANGELOG.md and docs/upgrade.md.
	if pinned := "[{streams 4e615b21718d67eb} {events 27dc085f80ccccec} {delivery exactly_once} {topics.position_partitions 12}]"; want != pinned {
		t.Errorf("the configuration is told to other replicas as %s, no longer as %s", want, pinned)
	}
	if got := of(12, "FHIR_CDC_BATCH_MAX_RECORDS=7", "FHIR_CDC_LOG_LEVEL=debug"); got != want {
		t.Errorf("sizes and logs make another configuration: %s, %s", got, want)
	}
	for _, other := range []string{"KAFKA_ENABLED_RESOURCES=Patient", "FHIR_CDC_DELIVERY=at_least_once", "FHIR_CDC_EVENTS_CHANGE_TOPIC=other"} {
		if of(12, other) == want {
			t.Errorf("%s makes no other configuration", other)
		}
	}
	if of(13) == want {
		t.Error("another number of partitions makes no other configuration")
	}
}
