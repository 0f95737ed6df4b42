package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// script is a source that plays chunks and then waits for the end of the context.
type script struct {
	fingerprint string
	begin       bson.Raw
	chunks      []watcher.Chunk
	scanned     []bson.Raw
	err         error

	mu   sync.Mutex
	from []watcher.From
}

func (s *script) Fingerprint() string { return s.fingerprint }

func (s *script) Begin(context.Context, watcher.From) (bson.Raw, error) { return s.begin, nil }

func (s *script) Oldest(context.Context) (bson.Timestamp, error) { return bson.Timestamp{T: 1}, nil }

func (s *script) Scan(_ context.Context, _ bson.Timestamp, until bson.Raw, each func(bson.Raw)) error {
	for _, raw := range s.scanned {
		if id, _ := raw.Lookup("_id").DocumentOK(); !watcher.After(id, until) {
			each(raw)
		}
	}
	return nil
}

func (s *script) Run(ctx context.Context, from watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	s.mu.Lock()
	s.from = append(s.from, from)
	s.mu.Unlock()
	for _, c := range s.chunks {
		if len(from.Token) > 0 && !watcher.After(c.Token, from.Token) {
			continue
		}
		if err := emit(ctx, c); err != nil {
			return err
		}
	}
	if s.err != nil {
		return s.err
	}
	<-ctx.Done()
	return nil
}

// kept is what publishers of one stream have committed, through all attempts.
type kept struct {
	mu        sync.Mutex
	batches   []publisher.Batch
	position  resumetoken.Position
	failures  int // commits that fail before one succeeds
	closed    int
	max       int
	committed chan struct{}
}

func (k *kept) publisher() (Publisher, error) { return &recorder{kept: k}, nil }

func (k *kept) ids() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ids []string
	for _, b := range k.batches {
		for _, e := range b.Events {
			ids = append(ids, string(e.Key))
		}
	}
	return ids
}

type recorder struct{ kept *kept }

func (r *recorder) Acquire(context.Context) (resumetoken.Position, error) {
	r.kept.mu.Lock()
	defer r.kept.mu.Unlock()
	if r.kept.position.IsZero() {
		return resumetoken.Position{}, resumetoken.ErrNone
	}
	return r.kept.position, nil
}

func (r *recorder) Commit(ctx context.Context, b *publisher.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.kept.mu.Lock()
	defer r.kept.mu.Unlock()
	if r.kept.failures > 0 && len(b.Events) > 0 {
		r.kept.failures--
		return errors.New("broker is away")
	}
	r.kept.batches = append(r.kept.batches, *b)
	r.kept.position = b.Position
	return nil
}

func (r *recorder) MaxEventBytes(string) int {
	if r.kept.max > 0 {
		return r.kept.max
	}
	return 1 << 20
}

func (r *recorder) Close(context.Context) error { r.kept.closed++; return nil }

func token(n int) bson.Raw {
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08x%08x", n, 1)}})
	if err != nil {
		panic(err)
	}
	return raw
}

func change(t *testing.T, n int, doc bson.D) bson.Raw {
	t.Helper()
	d := bson.D{
		{Key: "_id", Value: token(n)},
		{Key: "operationType", Value: "insert"},
		{Key: "clusterTime", Value: bson.Timestamp{T: uint32(n), I: 1}},
		{Key: "wallTime", Value: bson.DateTime(n * 1000)},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: "Consent_4_0_0"}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: n}}},
		{Key: "fullDocument", Value: doc},
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func consent(t *testing.T, n int) bson.Raw {
	t.Helper()
	return change(t, n, bson.D{
		{Key: "id", Value: "c" + strconv.Itoa(n)}, {Key: "_uuid", Value: "u" + strconv.Itoa(n)},
		{Key: "meta", Value: bson.D{{Key: "versionId", Value: "1"}, {Key: "lastUpdated", Value: bson.DateTime(n * 1000)}}},
	})
}

func chunk(changes ...bson.Raw) watcher.Chunk {
	c := watcher.Chunk{Changes: changes}
	for _, raw := range changes {
		c.Token, _ = raw.Lookup("_id").DocumentOK()
		c.Size += len(raw)
	}
	return c
}

func stream(source, history Source, k *kept, edit func(*Options, *Facts)) *Stream {
	o := Options{
		Name: "main", MaxRecords: 100, MaxBytes: 1 << 20, IdleInterval: 30 * time.Second, SeenRequests: 100,
		DrainTimeout: 5 * time.Second, MinBackoff: 10 * time.Millisecond, MaxBackoff: time.Second,
	}
	var f Facts
	if edit != nil {
		edit(&o, &f)
	}
	m := mapper.New(mapper.Config{
		Database: "fhir", Resources: []string{"Consent"}, ChangeTopic: "changes",
		AccessedEverythingTopic: "usage", AccessLogs: mapper.Namespace{Database: "logs", Collection: "access"},
		AuditEvents: mapper.Namespace{Database: "audit", Collection: "events"},
	})
	return NewStream(o, source, history, m, f, k.publisher, zap.NewNop())
}

// play runs the stream until everything has come to rest, then ends it.
func play(t *testing.T, s *Stream, rest time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case err := <-done:
		cancel()
		return err
	case <-timer.C:
	}
	cancel()
	return <-done
}

func TestFirstPositionIsStoredBeforeAnyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		s := &script{fingerprint: "f", begin: token(1), chunks: []watcher.Chunk{chunk(consent(t, 2), consent(t, 3))}}
		if err := play(t, stream(s, nil, k, nil), time.Second); err != nil {
			t.Fatal(err)
		}
		if first := k.batches[0]; len(first.Events) != 0 || !slices.Equal(first.Position.Token, token(1)) {
			t.Errorf("first batch is %+v, want the position of the start alone", first)
		}
		if got, want := k.ids(), []string{"c2", "c3"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		if got := k.position; !slices.Equal(got.Token, token(3)) || got.ClusterTime.T != 3 || got.Fingerprint != "f" || got.Stream != "main" {
			t.Errorf("position %+v", got)
		}
	})
}

func TestFailedCommitGoesOnFromTheStoredPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}, failures: 3}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2)), chunk(consent(t, 3))}}
		if err := play(t, stream(s, nil, k, nil), time.Minute); err != nil {
			t.Fatal(err)
		}
		if got, want := k.ids(), []string{"c2", "c3"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want each once: %v", got, want)
		}
		if len(s.from) != 4 || k.closed != 4 {
			t.Errorf("opened %d times, closed %d publishers; want 4 attempts", len(s.from), k.closed)
		}
	})
}

func TestPolicyStopPublishesWhatComesBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := change(t, 4, bson.D{{Key: "_uuid", Value: "u4"}})
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2), consent(t, 3), bad, consent(t, 5))}}
		err := play(t, stream(s, nil, k, func(o *Options, _ *Facts) { o.Stop = map[mapper.Kind]bool{mapper.KindChange: true} }), time.Minute)
		var policy *PolicyError
		if !errors.As(err, &policy) || policy.Failure.Reason != "id is missing" {
			t.Fatalf("got %v, want the policy's error", err)
		}
		if got, want := k.ids(), []string{"c2", "c3"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		if !slices.Equal(k.position.Token, token(3)) {
			t.Errorf("position %s, want right before the failed change", k.position.Token)
		}
	})
}

func TestFailuresGoWithTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := change(t, 3, bson.D{{Key: "id", Value: 7}})
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2), bad, consent(t, 4))}}
		if err := play(t, stream(s, nil, k, nil), time.Second); err != nil {
			t.Fatal(err)
		}
		var failures []string
		for _, b := range k.batches {
			for _, f := range b.Failures {
				failures = append(failures, f.Reason)
			}
		}
		if got, want := k.ids(), []string{"c2", "c4"}; !slices.Equal(got, want) || !slices.Equal(failures, []string{"id is not a string"}) {
			t.Errorf("events %v, failures %v", got, failures)
		}
	})
}

func TestOversizeEventBecomesAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}, max: 100}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2))}}
		if err := play(t, stream(s, nil, k, nil), time.Second); err != nil {
			t.Fatal(err)
		}
		if len(k.ids()) != 0 || len(k.batches[0].Failures) != 1 {
			t.Errorf("batch %+v, want one failure and no event", k.batches[0])
		}
	})
}

func TestChangedPipelineGoesOnByTimeAndLeavesOutWhatIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := bson.Timestamp{T: 3, I: 1}
		k := &kept{position: resumetoken.Position{Token: token(3), ClusterTime: at, Fingerprint: "old"}}
		s := &script{fingerprint: "new", chunks: []watcher.Chunk{
			chunk(consent(t, 2), consent(t, 3)), chunk(consent(t, 3), consent(t, 4)), chunk(consent(t, 5)),
		}}
		if err := play(t, stream(s, nil, k, nil), time.Second); err != nil {
			t.Fatal(err)
		}
		if s.from[0].ClusterTime != at || s.from[0].Token != nil {
			t.Errorf("opened from %+v, want the cluster time alone", s.from[0])
		}
		if got, want := k.ids(), []string{"c4", "c5"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		if k.position.Fingerprint != "new" {
			t.Errorf("fingerprint %q", k.position.Fingerprint)
		}
	})
}

func TestIdlePositionsAreStoredNowAndThenAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := &idle{script: script{fingerprint: "f"}}
		if err := play(t, stream(s, nil, k, nil), 95*time.Second); err != nil {
			t.Fatal(err)
		}
		if len(k.batches) != 4 {
			t.Errorf("%d positions stored in 95 s of idling, want one each 30 s and the last", len(k.batches))
		}
		if want := token(100 + 94); !slices.Equal(k.position.Token, want) {
			t.Errorf("last position %s, want %s", k.position.Token, want)
		}
	})
}

// idle sends an empty chunk each second.
type idle struct{ script }

func (s *idle) Run(ctx context.Context, _ watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	for n := 100; ; n++ {
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := emit(ctx, watcher.Chunk{Token: token(n)}); err != nil {
			return err
		}
	}
}

func TestFatalErrorsEndTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := &watcher.Error{Class: watcher.HistoryLost, Err: errors.New("gone")}
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2))}, err: lost}
		err := play(t, stream(s, nil, k, nil), time.Minute)
		if !errors.Is(err, lost) || len(s.from) != 1 {
			t.Errorf("got %v after %d attempts, want the error at once", err, len(s.from))
		}
	})
}

func accessLog(t *testing.T, n int, request string) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: token(n)},
		{Key: "operationType", Value: "insert"},
		{Key: "clusterTime", Value: bson.Timestamp{T: uint32(n), I: 1}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "logs"}, {Key: "coll", Value: "access"}}},
		{Key: "accessLog", Value: bson.D{
			{Key: "requestId", Value: request}, {Key: "url", Value: "/4_0_0/Patient/p/$everything"}, {Key: "method", Value: "GET"},
			{Key: "outcome", Value: "Success"}, {Key: "scopes", Value: "patient/*.*"}, {Key: "altId", Value: "person"},
			{Key: "timestamp", Value: bson.DateTime(1)},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type nobody struct{}

func (nobody) Find(context.Context, []string) (map[string]lookup.Person, error) { return nil, nil }
func (nobody) Changed(string, string, []string)                                 {}
func (nobody) Forget()                                                          {}

func TestARequestHasOneEventThroughRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		past := []bson.Raw{accessLog(t, 998, "a"), accessLog(t, 999, "b")}
		k := &kept{position: resumetoken.Position{Token: token(999), ClusterTime: bson.Timestamp{T: 999, I: 1}, Fingerprint: "f"}, failures: 1}
		history := &script{scanned: append(past, accessLog(t, 1000, "c"))}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{
			chunk(accessLog(t, 1000, "c"), accessLog(t, 1001, "a")), chunk(accessLog(t, 1002, "c"), accessLog(t, 1003, "d")),
		}}
		err := play(t, stream(s, history, k, func(o *Options, f *Facts) { o.SeenWindow, f.Persons = time.Minute, nobody{} }), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.ids(); len(got) != 2 || got[0] == got[1] {
			t.Errorf("events %v, want one for request c and one for d: a had its event before the start", got)
		}
	})
}
