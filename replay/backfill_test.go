package replay_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// topicOfOne is a position and a topic in memory, whose n-th commit fails.
type topicOfOne struct {
	stored  resumetoken.Position
	events  []string
	commits int
	fails   int
	// unknown lets the commit that fails be made all the same.
	unknown bool
}

var errBroken = errors.New("the connection broke")

func (p *topicOfOne) Acquire(context.Context) (resumetoken.Position, error) {
	if p.stored.IsZero() {
		return p.stored, resumetoken.ErrNone
	}
	return p.stored, nil
}

func (p *topicOfOne) Commit(_ context.Context, b *publisher.Batch) error {
	p.commits++
	if p.commits == p.fails && !p.unknown {
		return errBroken
	}
	for _, e := range b.Events {
		p.events = append(p.events, e.ID)
	}
	p.stored = b.Position
	if p.commits == p.fails {
		return errBroken
	}
	return nil
}

func (p *topicOfOne) MaxEventBytes(string) int    { return math.MaxInt }
func (p *topicOfOne) Close(context.Context) error { return nil }

// backfill prepares a backfill of all Consents into a topic, two in a transaction.
func (p place) backfill(topic *topicOfOne, facts daemon.Facts) *replay.Backfill {
	return &replay.Backfill{
		Stream: "backfill", Scanner: replay.NewScanner(p.mapper, replay.Options{Page: 2}), Collections: []replay.Collection{p.consents()},
		Translate: func(limit func(string) int) *daemon.Translation {
			return daemon.NewTranslation(p.mapper, facts, 1, limit)
		},
		Open: func() (daemon.Publisher, error) { return topic, nil },
	}
}

func TestBackfill(t *testing.T) {
	uri := services.MongoDBForTest(t, services.MongoDBOptions{}).URI
	client := connect(t, uri)
	for name, test := range map[string]func(*testing.T, place){
		"restart":            testBackfillRestart,
		"restart of nothing": testBackfillRestartOfNothing,
		"history at another client": func(t *testing.T, p place) {
			testBackfillAsksAnotherClient(t, p, connect(t, uri))
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, newPlace(t, client)) })
	}
}

// testBackfillRestart: whichever commit of a restarted backfill fails, the attempts
// after it do not take up what had been done before, nor do they begin anew once more.
func testBackfillRestart(t *testing.T, p place) {
	const consents = 5
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		if _, err := p.server.CreateConsent(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	run := func(topic *topicOfOne, restart bool) *replay.BackfillResult {
		t.Helper()
		b := p.backfill(topic, daemon.Facts{})
		b.Restart = restart
		result, err := b.Run(t.Context())
		if err != nil || !result.Done || result.Events != consents {
			t.Fatalf("a run with restart %t has done %+v, error %v", restart, result, err)
		}
		return result
	}
	for fails := range 4 {
		for _, unknown := range []bool{false, true} {
			topic := &topicOfOne{}
			run(topic, false)
			done := topic.stored
			*topic = topicOfOne{stored: done, fails: fails, unknown: unknown}
			if result := run(topic, true); result.Already || result.Resumed {
				t.Errorf("commit %d fails (unknown %t): %+v", fails, unknown, result)
			}
			if topic.commits < fails || len(topic.events) != consents {
				t.Errorf("commit %d fails (unknown %t): %d events after %d commits, want %d", fails, unknown, len(topic.events), topic.commits, consents)
			}
			if result := run(topic, false); !result.Already || len(topic.events) != consents {
				t.Errorf("a run after the restart has done %+v", result)
			}
			if run(topic, true); len(topic.events) != 2*consents {
				t.Errorf("a second restart brings the events to %d, want %d", len(topic.events), 2*consents)
			}
		}
	}
}

// testBackfillRestartOfNothing: where nothing is stored it begins once, too.
func testBackfillRestartOfNothing(t *testing.T, p place) {
	for _, id := range []string{"a", "b", "c"} {
		if _, err := p.server.CreateConsent(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	topic := &topicOfOne{fails: 2}
	b := p.backfill(topic, daemon.Facts{})
	b.Restart = true
	if result, err := b.Run(t.Context()); err != nil || !result.Done || len(topic.events) != 3 {
		t.Errorf("%d events, %+v, error %v", len(topic.events), result, err)
	}
}

// testBackfillAsksAnotherClient: the history may be on a cluster of its own, whose
// client refuses the sessions of this one's.
func testBackfillAsksAnotherClient(t *testing.T, p place, other *mongo.Client) {
	if _, err := p.server.CreateConsent(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := p.server.Flush(); err != nil {
		t.Fatal(err)
	}
	requests := lookup.NewRequestIDs(other.Database(p.databases.History), lookup.RequestIDOptions{})
	topic := &topicOfOne{}
	result, err := p.backfill(topic, daemon.Facts{RequestIDs: requests}).Run(t.Context())
	if err != nil || result.Events != 1 || requests.Stats().Found != 1 {
		t.Errorf("%+v, request ids %+v, error %v", result, requests.Stats(), err)
	}
}

var _ daemon.Publisher = (*topicOfOne)(nil)
