package faults_test

import (
	"context"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// mode is one way of running the daemon.
type mode struct {
	name string
	// once says what is promised: exactly once, or at least once.
	once bool
	env  map[string]string
	// facts looks request ids up; without, the daemon is as fast as it can be.
	facts bool
}

func exactlyOnce() mode {
	return mode{name: "exactly_once", once: true, env: map[string]string{"FHIR_CDC_DELIVERY": "exactly_once"}}
}

// atLeastOnce keeps positions in one of the stores.
func atLeastOnce(store string) mode {
	return mode{name: "at_least_once_" + store, env: map[string]string{
		"FHIR_CDC_DELIVERY": "at_least_once", "FHIR_CDC_CHECKPOINT_STORE": store,
	}}
}

func (m mode) withFacts() mode {
	m.name += "_facts"
	m.facts = true
	return m
}

// installation is one daemon, life after life.
type installation struct {
	t    *testing.T
	mode mode
	site harness.Site
	env  map[string]string
	// daemons are the lives so far.
	daemons []*harness.Daemon
}

// install prepares an installation that begins now: what is written from here on
// must become events, whenever the daemon starts.
func install(t *testing.T, m mode, site harness.Site) *installation {
	t.Helper()
	i := &installation{t: t, mode: m, site: site, env: site.Env()}
	maps.Copy(i.env, m.env)
	maps.Copy(i.env, map[string]string{
		// A consumer that is built with the race detector needs milliseconds to
		// decompress each of the many small batches.
		"FHIR_CDC_KAFKA_COMPRESSION": "none",
		// A second earlier: cluster times are in seconds.
		"FHIR_CDC_START":                       time.Now().Add(-time.Second).UTC().Format(time.RFC3339),
		"FHIR_CDC_CHECKPOINT_MONGODB_DATABASE": site.Databases.Main + "-positions",
		"FHIR_CDC_CHECKPOINT_FILE_PATH":        filepath.Join(t.TempDir(), "positions.json"),
	})
	if !m.facts {
		i.env["FHIR_CDC_FACTS_REQUEST_ID"] = "false"
		i.env["FHIR_CDC_FACTS_WAIT"] = "100ms" // A repair waits 30 times as long for the history.
	}
	keepLogs(t, func() []*harness.Daemon { return i.daemons })
	return i
}

// start begins the next life.
func (i *installation) start() *harness.Daemon {
	i.t.Helper()
	d := harness.Start(i.t, harness.Options{Env: i.env})
	i.daemons = append(i.daemons, d)
	return d
}

// startReady begins the next life and waits until it reads changes.
func (i *installation) startReady(ctx context.Context) *harness.Daemon {
	i.t.Helper()
	d := i.start()
	if err := d.WaitReady(ctx); err != nil {
		i.t.Fatal(err)
	}
	return d
}

// topics are those that a consumer reads.
func (i *installation) topics() []string {
	return append(i.site.Topics.Events(), i.site.Topics.DeadLetters)
}

// caughtUp waits until all that has been written by now can be consumed.
func (i *installation) caughtUp(ctx context.Context, l *load) {
	i.t.Helper()
	for l.count() == 0 {
		if err := pass(ctx, askAgain); err != nil {
			i.t.Fatalf("nothing is written: %v", err)
		}
	}
	want := events(i.site.Topics, l.written(), l.requested())
	begin := time.Now()
	if _, err := harness.NewReader(i.t, i.site.Brokers, i.topics()...).UntilIDs(ctx, ids(want)...); err != nil {
		i.t.Fatalf("%s has not caught up: %v", i.mode.name, err)
	}
	i.t.Logf("%s: %d events are there after %v", i.mode.name, len(want), time.Since(begin).Round(time.Millisecond))
}

// verify waits until all that was written can be consumed, stops the daemon that
// runs, and then judges all records. It returns them.
func (i *installation) verify(ctx context.Context, l *load) []harness.Record {
	i.t.Helper()
	want := events(i.site.Topics, l.written(), l.requested())
	reader := harness.NewReader(i.t, i.site.Brokers, i.topics()...)
	if _, err := reader.UntilIDs(ctx, ids(want)...); err != nil {
		i.t.Errorf("%s: %v", i.mode.name, err)
	}
	// The end has its own time, also when the wait has taken all of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if code, err := i.daemons[len(i.daemons)-1].Stop(ctx); err != nil || code != 0 {
		i.t.Errorf("%s: stopped with exit code %d (%v), want 0", i.mode.name, code, err)
	}
	records, err := reader.End(ctx)
	if err != nil {
		i.t.Errorf("%s: %v", i.mode.name, err)
	}
	f := check(records, want, i.mode.once)
	if len(f.faults) > 0 {
		i.t.Errorf("%s: of %d events\n%s", i.mode.name, len(want), f)
	}
	i.t.Logf("%s: %d changes, %d events, %d records, %d of them repeated", i.mode.name, l.count(), len(want), len(records), f.repeated)
	if i.mode.facts {
		i.t.Logf("%s: %d of %d changes with a history have their request id", i.mode.name, f.named, f.nameable)
		if f.named*2 < f.nameable {
			i.t.Errorf("%s: only %d of %d changes with a history have their request id", i.mode.name, f.named, f.nameable)
		}
	}
	return records
}
