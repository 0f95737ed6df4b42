package daemon

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// script is a source that plays chunks and then waits for the end of the context.
type script struct {
	fingerprint string
	history     string
	begin       bson.Raw
	chunks      []watcher.Chunk
	scanned     []bson.Raw
	err         error
	// newest is the cluster's newest operation; zero if it does not tell.
	newest bson.Timestamp

	mu   sync.Mutex
	from []watcher.From
}

func (s *script) Fingerprint() string { return s.fingerprint }

func (s *script) Begin(context.Context, watcher.From) (bson.Raw, error) { return s.begin, nil }

func (s *script) Oldest(context.Context) (bson.Timestamp, error) { return bson.Timestamp{T: 1}, nil }

func (s *script) Window(context.Context) (watcher.Window, error) {
	return watcher.Window{Newest: s.newest}, nil
}

func (s *script) History() string { return s.history }

func (s *script) OpenCursors() int64 { return 0 }

func (s *script) Scan(_ context.Context, _ watcher.From, until bson.Raw, each func(bson.Raw)) error {
	for _, raw := range s.scanned {
		if id, _ := raw.Lookup("_id").DocumentOK(); !tokens.After(id, until) {
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
		if len(from.Token) > 0 && !tokens.After(c.Token, from.Token) {
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
	mu       sync.Mutex
	batches  []publisher.Batch
	position resumetoken.Position
	failures int // commits that fail before one succeeds
	closed   int
	max      int
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
		{Key: "id", Value: "c" + strconv.Itoa(n)},
		{Key: "_uuid", Value: "u" + strconv.Itoa(n)},
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
		Database: "fhir", Resources: []string{"Consent"}, Topics: map[mapper.Kind]string{mapper.KindChange: "changes", mapper.KindAccessedEverything: "usage"},
		AccessLogs:  mapper.Namespace{Database: "logs", Collection: "access"},
		AuditEvents: mapper.Namespace{Database: "audit", Collection: "events"},
	})
	return NewStream(o, Parts{source, history, m, f, k.publisher}, zap.NewNop())
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
