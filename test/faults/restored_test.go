package faults_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// survivor is an installation that a restore happens to.
type survivor struct {
	*installation
	versions []version
}

// write writes a new Consent and another version of it.
func (s *survivor) write(ctx context.Context, client *mongo.Client, id string) {
	s.t.Helper()
	s.writeBy(ctx, fhirserver.New(client, fhirserver.Options{Databases: s.site.Databases}), id)
}

func (s *survivor) writeBy(ctx context.Context, server *fhirserver.Server, id string) {
	s.t.Helper()
	created, err := server.CreateConsent(ctx, id)
	if err != nil {
		s.t.Fatal(err)
	}
	replaced, err := server.ReplaceConsent(ctx, created)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range []fhirserver.Resource{created, replaced} {
		s.versions = append(s.versions, version{Resource: r, history: historyNone})
	}
}

// await waits until all that was written has its event.
func (s *survivor) await(ctx context.Context) *harness.Reader {
	s.t.Helper()
	reader := harness.NewReader(s.t, s.site.Brokers, s.topics()...)
	if _, err := reader.UntilIDs(ctx, ids(events(s.site.Topics, s.versions, nil))...); err != nil {
		s.t.Fatalf("%s: %v", s.mode.name, err)
	}
	return reader
}

// survivors are stopped at the position of an event and of an idle time.
func survivors(ctx context.Context, t *testing.T, r *restorable, brokers []string) []*survivor {
	t.Helper()
	var all []*survivor
	for _, kind := range []string{"event", "idle"} {
		m := exactlyOnce()
		m.name = kind
		m.env["FHIR_CDC_CHECKPOINT_IDLE_INTERVAL"] = map[string]string{"event": "1h", "idle": "1s"}[kind]
		s := &survivor{installation: install(t, m, harness.NewSite(t, r.URI, brokers))}
		s.startReady(ctx)
		s.write(ctx, r.client(), "published")
		all = append(all, s)
	}
	event, idle := all[0], all[1]
	event.await(ctx)
	r.check(event.daemons[0].Kill()) // what is kept back while idle is not stored
	idle.await(ctx)
	(&quietOne{installation: idle.installation}).stored(ctx, bson.Timestamp{T: uint32(time.Now().Unix())})
	if code, err := idle.daemons[0].Stop(ctx); err != nil || code != 0 {
		t.Fatalf("stopped with exit code %d, error %v", code, err)
	}
	return all
}

// TestRestored restores a replica set in the ways that MongoDB documents, and replaces it
// by another one, while the daemon is down. What was written and is there has its event
// once; what the oplog does not tell of is repaired.
func TestRestored(t *testing.T) {
	t.Parallel()
	brokers := sharedBrokers(t)
	for _, name := range slices.Sorted(maps.Keys(restores())) {
		way := restores()[name]
		t.Run(name, func(t *testing.T) {
			ctx := long(t)
			r := newRestorable(ctx, t)
			if way.before != nil {
				way.before(r)
			}
			all := survivors(ctx, t, r, brokers)
			for _, s := range all {
				published := s.versions
				s.write(ctx, r.client(), "while it is down")
				if way.undone {
					s.versions = published
				}
			}
			way.after(r)
			for _, s := range all {
				s.startReady(ctx)
				s.write(ctx, r.client(), "after")
				reader := s.await(ctx)
				if way.gaps > 0 {
					r.check(s.daemons[1].WaitForLog(ctx, logRepaired))
				}
				if code, err := s.daemons[1].Stop(ctx); err != nil || code != 0 {
					t.Errorf("%s: stopped with exit code %d, error %v", s.mode.name, code, err)
				}
				records, err := reader.End(ctx)
				r.check(err)
				if f := check(records, events(s.site.Topics, s.versions, nil), true); len(f.faults) > 0 {
					t.Errorf("%s:\n%s", s.mode.name, f)
				}
				if got := auditActions(ctx, t, s.site); got["gap"] != way.gaps || got["repaired"] != way.gaps {
					t.Errorf("%s: the audit topic tells of %v, want %d gaps and repairs", s.mode.name, got, way.gaps)
				}
			}
		})
	}
}

// TestRestoredIsSaid: with repair.on_history_lost: stop a restored set ends the daemon with
// exit code 4, and nothing is published; check, replay, position set and verify tell of it.
func TestRestoredIsSaid(t *testing.T) {
	t.Parallel()
	brokers := sharedBrokers(t)
	ctx := long(t)
	r := newRestorable(ctx, t)
	since := time.Now().UTC().Format(time.RFC3339)
	all := survivors(ctx, t, r, brokers)
	for _, s := range all {
		s.write(ctx, r.client(), "while it is down")
	}
	r.stopped(r.withoutLocal)
	for _, s := range all {
		command := func(want int, text string, args ...string) {
			t.Helper()
			d := harness.Start(t, harness.Options{Env: s.env, Command: args})
			if code, err := d.Wait(ctx); err != nil || code != want {
				t.Errorf("%s: %v: exit code %d, error %v, want %d", s.mode.name, args, code, err, want)
			}
			if said := d.Stdout() + d.Logs(); !strings.Contains(said, text) {
				t.Errorf("%s: %v does not say %q:\n%s", s.mode.name, args, text, said)
			}
		}
		s.env["FHIR_CDC_REPAIR_ON_HISTORY_LOST"] = "stop"
		command(4, "when the replica set was initiated, after the position", "run")
		if records, err := harness.NewReader(t, brokers, s.topics()...).End(ctx); err != nil || len(records) != 2 {
			t.Errorf("%s: %d records, error %v", s.mode.name, len(records), err)
		}
		command(1, "when the replica set was initiated, after the position", "check")
		command(2, "the oplog does not reach back", "replay", "--from-time", since, "--dry-run")
		command(2, "the oplog no longer holds", "position", "set", "main", "--from-time", since, "--dry-run")
		s.env["FHIR_CDC_REPAIR_ON_HISTORY_LOST"] = "repair"
		s.startReady(ctx)
		s.await(ctx)
		r.check(s.daemons[1].WaitForLog(ctx, logRepaired))
		if code, err := s.daemons[1].Stop(ctx); err != nil || code != 0 {
			t.Errorf("%s: stopped with exit code %d, error %v", s.mode.name, code, err)
		}
		command(0, "told by the collections and their history only", "verify", "--since", since)
	}
}

// TestReinitiatedWhileRunning initiates a set of the same name over an empty folder while
// the daemon runs: it finds the new set, whose elections are earlier than those that the
// client has seen, and publishes what was written again once.
func TestReinitiatedWhileRunning(t *testing.T) {
	t.Parallel()
	brokers := sharedBrokers(t)
	ctx := long(t)
	r := newRestorable(ctx, t)
	for range 2 { // elections
		r.check(r.Restart(ctx))
	}
	s := &survivor{installation: install(t, exactlyOnce(), harness.NewSite(t, r.URI, brokers))}
	d := s.startReady(ctx)
	for n := range 3 {
		s.write(ctx, r.client(), fmt.Sprint("before-", n))
	}
	s.await(ctx)
	r.dump()
	r.stopped(func() error { return emptied(r.data) })
	r.fill()
	s.write(ctx, r.client(), "after")
	reader := s.await(ctx)
	r.check(d.WaitForLog(ctx, logRepaired))
	if code, err := d.Stop(ctx); err != nil || code != 0 {
		t.Errorf("stopped with exit code %d, error %v", code, err)
	}
	records, err := reader.End(ctx)
	r.check(err)
	if f := check(records, events(s.site.Topics, s.versions, nil), true); len(f.faults) > 0 {
		t.Errorf("%s", f)
	}
	if got := auditActions(ctx, t, s.site); got["gap"] != 1 || got["repaired"] != 1 {
		t.Errorf("the audit topic tells of %v", got)
	}
}

// TestMovedToAnotherCluster moves the FHIR server to another cluster, and the daemon after it
// when the position in the former one is later than what was written in the new one.
func TestMovedToAnotherCluster(t *testing.T) {
	t.Parallel()
	brokers := sharedBrokers(t)
	ctx := long(t)
	former, next := newRestorable(ctx, t), newRestorable(ctx, t)
	m := exactlyOnce()
	m.env["FHIR_CDC_CHECKPOINT_IDLE_INTERVAL"] = "1s"
	m.env["FHIR_CDC_REPAIR_CLOCK_TOLERANCE"] = "1s" // else it bridges the move
	s := &survivor{installation: install(t, m, harness.NewSite(t, former.URI, brokers))}
	s.env["FHIR_CDC_FACTS_WAIT"] = "1s"
	d := s.startReady(ctx)
	s.write(ctx, former.client(), "in the former")
	s.await(ctx)
	s.write(ctx, next.client(), "in the new one")
	// Later than that by more than the tolerance.
	(&quietOne{installation: s.installation}).stored(ctx, bson.Timestamp{T: uint32(time.Now().Unix()) + 2})
	if code, err := d.Stop(ctx); err != nil || code != 0 {
		t.Fatalf("stopped with exit code %d, error %v", code, err)
	}
	for name, value := range s.env {
		if value == former.URI {
			s.env[name] = next.URI
		}
	}
	// As of a large $merge: it comes when the collections have been scanned.
	late := fhirserver.New(next.client(), fhirserver.Options{Databases: s.site.Databases, HistoryDelay: 15 * time.Second})
	s.writeBy(ctx, late, "of late history")
	s.versions[len(s.versions)-2].overtakes = true
	d = s.startReady(ctx)
	s.write(ctx, next.client(), "after")
	reader := s.await(ctx)
	next.check(d.WaitForLog(ctx, logRepaired))
	next.check(late.Flush())
	if code, err := d.Stop(ctx); err != nil || code != 0 {
		t.Errorf("stopped with exit code %d, error %v", code, err)
	}
	records, err := reader.End(ctx)
	next.check(err)
	if f := check(records, events(s.site.Topics, s.versions, nil), true); len(f.faults) > 0 {
		t.Errorf("%s", f)
	}
}
