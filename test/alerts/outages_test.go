package alerts_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// envOutage is a part of the name of the outages to make; without it all are made.
const envOutage = "FHIR_CDC_TEST_OUTAGE"

// outage is one of those in docs/runbook.md, made with real processes and servers.
type outage struct {
	// name is that of its row in the runbook.
	name string
	// what tells the outages of one row apart.
	what string
	// processes are those that run; the first of them carries the streams.
	processes []string
	// env is added to the processes' environment: name, value, name, value.
	env []string
	// pace is how many seconds a real one counts for.
	pace float64
	// rolling asks for the MongoDB with the small oplog.
	rolling bool
	// before is done before anybody scrapes, begin is what goes wrong.
	before, begin func(ctx context.Context, s *scene) error
	// stays says that nothing changes any more: an alert that has to hold for longer than the
	// outage takes here may count on it.
	stays bool
	// only is a label that all alerts of the outage have, name and value.
	only [2]string
	// quiet says that no other alert may fire, not even a warning, but for those that tell
	// how quick the machine is.
	quiet bool
}

const (
	// normal is the pace of most outages: minutes take seconds. At a quicker one a busy
	// machine would look like an outage.
	normal = 10
	// lasts is how long an outage takes at least, so that an alert that should not fire
	// gets the time to.
	lasts = 65 * time.Second
)

func outages() []outage { //nolint:funlen // a table
	one, two := []string{"a"}, []string{"a", "b"}
	alone := []string{"FHIR_CDC_REPLICAS", "none"}
	kafkaAway := func(_ context.Context, s *scene) error { return s.kafka.Close() }
	kafkaHangs := func(_ context.Context, s *scene) error { s.kafka.Block(); return nil }
	mongoAway := func(_ context.Context, s *scene) error { return s.mongo.Close() }
	mongoHangs := func(_ context.Context, s *scene) error { s.mongo.Block(); return nil }
	rollOver := func(ctx context.Context, s *scene) error { return s.rollOver(ctx, "a") }
	againAndAgain := func(ctx context.Context, s *scene) error { s.again(ctx, "a"); return nil }
	unproducible := func(ctx context.Context, s *scene) error {
		return s.fhir.Insert(ctx, "Consent_4_0_0", bson.D{{Key: "resourceType", Value: "Consent"}})
	}
	return []outage{
		{name: "nothing", what: "a stand-by", processes: two, pace: normal, quiet: true},
		{name: "Kafka is away or hangs", what: "away", processes: two, pace: normal, begin: kafkaAway},
		{name: "Kafka is away or hangs", what: "hangs", processes: two, pace: normal, begin: kafkaHangs},
		{name: "Kafka is away or hangs, with `replicas: none`", what: "away", processes: one, env: alone, pace: normal, begin: kafkaAway},
		{name: "Kafka is away or hangs, with `replicas: none`", what: "hangs", processes: one, env: alone, pace: normal, begin: kafkaHangs},
		{name: "Kafka is away for longer than the oplog is long", processes: two, pace: normal, rolling: true, begin: kafkaAway},
		// At a quicker pace, so that the other one takes over in the time that it has for it.
		{name: "one replica cannot reach Kafka", processes: one, pace: 8, quiet: true, begin: func(ctx context.Context, s *scene) error {
			other := s.start("b", "KAFKA_URLS", s.servers.kafka.Brokers[0])
			if err := until(ctx, "b is ready", func() bool { return strings.HasPrefix(ask(ctx, other, "/readyz"), "ok") }); err != nil {
				return err
			}
			return s.kafka.Close()
		}},
		{name: "MongoDB is away or hangs", what: "away", processes: two, pace: normal, begin: mongoAway},
		{name: "MongoDB is away or hangs", what: "hangs", processes: two, pace: normal, begin: mongoHangs},
		{
			name: "one of two clusters hangs", processes: one, pace: normal, begin: mongoHangs, only: [2]string{"stream", "access-logs"},
			env: []string{"MONGO_URL", "{mongodb}", "RESOURCE_HISTORY_MONGO_URL", "{mongodb}", "AUDIT_EVENT_MONGO_URL", "{mongodb}"},
		},
		{name: "MongoDB hangs while Kafka is away", processes: two, pace: normal, begin: func(ctx context.Context, s *scene) error {
			return errors.Join(kafkaAway(ctx, s), mongoHangs(ctx, s))
		}},
		{name: "lost history, repaired", processes: one, pace: normal, rolling: true, before: rollOver, begin: func(_ context.Context, s *scene) error {
			s.mongo.Slow(200 * time.Millisecond) // The repair is to be seen.
			s.start("a")
			return nil
		}},
		{
			name: "lost history, with `repair.on_history_lost: stop`", processes: one, pace: normal, rolling: true,
			env: []string{"FHIR_CDC_REPAIR_ON_HISTORY_LOST", "stop"}, before: rollOver, begin: againAndAgain,
		},
		{name: "a document that cannot become an event", processes: one, pace: normal, begin: unproducible},
		{
			name: "a document that cannot become an event, with `on_failure: stop`", processes: one, pace: normal,
			env: []string{"FHIR_CDC_EVENTS_CHANGE_ON_FAILURE", "stop"}, begin: func(ctx context.Context, s *scene) error {
				if err := unproducible(ctx, s); err != nil {
					return err
				}
				if _, err := s.daemon("a").Wait(ctx); err != nil {
					return err
				}
				return againAndAgain(ctx, s)
			},
		},
		{name: "a stream is paused", processes: one, pace: normal, stays: true, begin: func(ctx context.Context, s *scene) error { return s.daemon("a").Control(ctx, "pause", "main") }},
		{name: "two processes have one instance", processes: one, pace: normal, begin: func(_ context.Context, s *scene) error {
			s.start("twin", "FHIR_CDC_INSTANCE", "a")
			return nil
		}},
		{name: "replicas of two configurations", processes: one, pace: normal, stays: true, begin: func(_ context.Context, s *scene) error {
			s.start("other", "KAFKA_ENABLED_RESOURCES", "Consent")
			return nil
		}},
		{name: "no process runs", processes: two, pace: normal, begin: func(ctx context.Context, s *scene) error {
			var all error
			s.each(func(_ string, d *harness.Daemon) {
				_, err := d.Stop(ctx)
				all = errors.Join(all, err)
			})
			return all
		}},
	}
}

// expected are the alerts that the runbook names for an outage.
type expected struct{ fire, may []string }

// inRunbook are the rows of the runbook's table of outages.
func inRunbook(t *testing.T) map[string]expected {
	t.Helper()
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n# Outages\n")
	table, _, _ = strings.Cut(table, "\n# ")
	all := map[string]expected{}
	named := regexp.MustCompile(`FhirCdc\w+`)
	for _, row := range regexp.MustCompile(`(?m)^\| (.+?) \| (.+?) \| (.+?) \|$`).FindAllStringSubmatch(table, -1) {
		all[row[1]] = expected{named.FindAllString(row[2], -1), named.FindAllString(row[3], -1)}
	}
	delete(all, "outage")
	return all
}

// TestOutages makes every outage of the runbook happen to real processes, side by side. In
// each the alerts fire that the runbook names for it, and no other one that wakes people.
func TestOutages(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	want, all := inRunbook(t), rules(t)
	var scenes []*scene
	made := map[string]bool{}
	for _, o := range outages() {
		if !strings.Contains(o.name+", "+o.what, os.Getenv(envOutage)) {
			continue
		}
		scenes = append(scenes, &scene{outage: o})
		if made[o.name] = true; want[o.name].fire == nil && want[o.name].may == nil && o.name != "nothing" {
			t.Errorf("docs/runbook.md has no row for %q", o.name)
		}
	}
	for name := range want {
		if !made[name] && os.Getenv(envOutage) == "" {
			t.Errorf("nobody makes the outage %q of docs/runbook.md", name)
		}
	}
	shared := startServers(ctx, t, scenes)
	var running sync.WaitGroup
	errs := make([]error, len(scenes))
	fired := make([]map[string][]labels.Labels, len(scenes))
	for i, s := range scenes {
		s.prepare(ctx, t, shared)
		running.Go(func() { fired[i], errs[i] = s.run(ctx, all, want[s.name]) })
	}
	running.Wait()
	for i, s := range scenes {
		t.Run(strings.Trim(s.name+", "+s.what, ", "), func(t *testing.T) {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			s.judge(t, all, want[s.name], fired[i])
		})
	}
}

// run has the outage happen until the alerts that it wants have fired, and for long enough
// that others could.
func (s *scene) run(ctx context.Context, all []rulefmt.Rule, want expected) (fired map[string][]labels.Labels, err error) {
	if err := s.well(ctx); err != nil {
		return nil, err
	}
	if s.before != nil {
		if err := s.before(ctx, s); err != nil {
			return nil, err
		}
	}
	s.scrape(ctx, all)
	if s.begin != nil {
		if err := s.begin(ctx, s); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	const patience = 3 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// Time passes here: it is what an outage is made of.
	for pause := lasts; ctx.Err() == nil; pause = 5 * time.Second {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		fired = s.record.fired(s.t, all, 0)
		if s.stays {
			for alert, found := range s.record.fired(s.t, all, time.Hour) {
				if slices.Contains(want.fire, alert) {
					fired[alert] = found
				}
			}
		}
		if !slices.ContainsFunc(want.fire, func(alert string) bool { return fired[alert] == nil }) {
			break
		}
	}
	s.t.Logf("%s %s: over after %v", s.name, s.what, time.Since(began).Round(time.Second))
	return fired, nil
}

// judge compares what has fired with what the runbook says.
func (s *scene) judge(t *testing.T, all []rulefmt.Rule, want expected, fired map[string][]labels.Labels) {
	t.Helper()
	for _, alert := range want.fire {
		if fired[alert] == nil {
			t.Errorf("%s has not fired", alert)
		}
	}
	for _, r := range all {
		found := fired[r.Alert]
		if found == nil || strings.HasPrefix(r.Alert, "FhirCdcSlow") {
			continue // It has not, or tells of the machine's speed.
		}
		t.Logf("%s (%s) fires for %v", r.Alert, r.Labels["severity"], found)
		named := slices.Contains(want.fire, r.Alert) || slices.Contains(want.may, r.Alert)
		if !named && (r.Labels["severity"] == "critical" || s.quiet) {
			t.Errorf("%s fires, and docs/runbook.md does not name it for this outage", r.Alert)
		}
		for _, l := range found {
			if s.only[0] != "" && l.Get(s.only[0]) != s.only[1] {
				t.Errorf("%s fires for %v, want only %v", r.Alert, l, s.only)
			}
		}
	}
	if t.Failed() {
		text, _ := s.record.text(0)
		path := t.TempDir() + "/series"
		if dir, err := os.MkdirTemp("", "fhir-cdc-outage-"); err == nil {
			path = dir + "/series"
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err == nil {
			t.Logf("what was scraped is kept in %s", path)
		}
	}
}
