package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

const (
	// exportShare is the part of the changes that are an export job's next status.
	exportShare = 0.02
	// everythingShare is the number of $everything requests beside each change.
	everythingShare = 0.1
	// linkShare is the part of the changes that link a patient to a person, or unlink one, by hand.
	linkShare = 0.05
	writers   = 8
	// askAgain is the pause before a server that is away is asked again.
	askAgain = 50 * time.Millisecond
)

// version is one committed change, and what its history will be.
type version struct {
	fhirserver.Resource
	history history
	// overtakes says that its event has no order among those of its resource.
	overtakes bool
}

// history says whether the version has got one by the time it was written.
type history int

const (
	historyNone history = iota
	historyLate
	historyAtOnce
)

// load is a FHIR server that is busy: some writers, each with resources of its
// own, so that the order of a resource's changes is known.
type load struct {
	client *mongo.Client
	// servers differ in when they write history; each change takes one of them.
	servers map[history]*fhirserver.Server
	// changes are written in all, to about keys Consents, rate of them a second.
	changes, keys, rate int
	seed                uint64
	// everything also makes $everything requests.
	everything bool
	// noExports leaves export jobs out: they have no history.
	noExports bool
	// byHand, if set, also links patients to persons, while MongoDB answers.
	byHand *fhirserver.Server
	// gate, if set, waits until change n may be written.
	gate func(ctx context.Context, n int) error

	mu       sync.Mutex
	versions []version
	requests []fhirserver.Request
	begun    int // changes begun
	// finished says that no further change is to begin.
	finished bool
}

// newLoad returns a load whose changes have no history.
func newLoad(client *mongo.Client, databases fhirserver.Databases, seed uint64, changes, rate int) *load {
	return &load{
		client: client, changes: changes, keys: max(changes/10, 10), rate: rate, seed: seed,
		servers: map[history]*fhirserver.Server{
			historyNone: fhirserver.New(client, fhirserver.Options{Databases: databases, HistoryDelay: fhirserver.NoHistory}),
		},
	}
}

// withHistory makes most changes have a history, some late and some never.
func (l *load) withHistory(databases fhirserver.Databases) {
	l.servers[historyAtOnce] = fhirserver.New(l.client, fhirserver.Options{Databases: databases})
	l.servers[historyLate] = fhirserver.New(l.client, fhirserver.Options{Databases: databases, HistoryDelay: 200 * time.Millisecond})
}

// run writes all changes, or until ctx ends.
func (l *load) run(ctx context.Context) error {
	if err := l.servers[historyNone].CreateIndexes(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error { return l.write(ctx, w) })
	}
	err := g.Wait()
	for _, s := range l.servers {
		err = errors.Join(err, s.Flush())
	}
	return err
}

// written are the changes so far; those of a resource are in their order.
func (l *load) written() []version {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.versions)
}

// requested are the $everything requests so far.
func (l *load) requested() []fhirserver.Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests)
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.versions)
}

// next is the number of the next change to begin, false when all have.
func (l *load) next() (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	return l.begun - 1, l.begun <= l.changes && !l.finished
}

// finish lets no further change begin.
func (l *load) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished = true
}

// begin runs the load beside the test, until the test ends at the latest. What it
// returns waits until all is written.
func (l *load) begin(ctx context.Context, t *testing.T) (await func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	result := make(chan error, 1)
	go func() { result <- l.run(ctx) }()
	wait := sync.OnceValue(func() error { return <-result })
	t.Cleanup(func() {
		cancel()
		_ = wait() // the test has failed, or has seen it
	})
	return func() {
		t.Helper()
		if err := wait(); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
}

func (l *load) write(ctx context.Context, writer int) error {
	w := &writerState{load: l, number: writer, random: newRandom(l.seed + uint64(writer)), consents: map[int]fhirserver.Resource{}}
	period := time.Second * writers / time.Duration(l.rate)
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n, more := l.next()
		if !more {
			return nil
		}
		if l.gate != nil {
			if err := l.gate(ctx, n); err != nil {
				return err
			}
		}
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := w.change(ctx); err != nil {
			return err
		}
		// After an outage it goes on at its pace and does not make up for it.
		if due = due.Add(period); time.Since(due) > time.Second {
			due = time.Now()
		}
	}
}

// writerState is what one writer has written.
type writerState struct {
	*load
	number   int
	random   *rand.Rand
	consents map[int]fhirserver.Resource
	job      *fhirserver.Resource // nil between two
	jobs     int
	person   *fhirserver.Resource
	linked   bool
}

func (w *writerState) change(ctx context.Context) error {
	if w.everything && w.random.Float64() < everythingShare {
		// History is none of its traces: any of the servers will do.
		r, err := w.servers[historyNone].Everything(ctx, "person-1", 1+w.random.IntN(4), w.random.IntN(2) == 0)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.requests = append(w.requests, r)
		w.mu.Unlock()
	}
	if !w.noExports && w.random.Float64() < exportShare {
		return w.export(ctx)
	}
	if w.byHand != nil && w.random.Float64() < linkShare {
		return w.link(ctx)
	}
	key := w.random.IntN(max(w.keys/writers, 1))
	before, exists := w.consents[key]
	after, err := w.put(ctx, func(s *fhirserver.Server) (fhirserver.Resource, error) {
		if exists {
			return s.ReplaceConsent(ctx, before)
		}
		return s.CreateConsent(ctx, fmt.Sprintf("consent-%d-%d", w.number, key))
	})
	w.consents[key] = after
	return err
}

// export takes the writer's export job one status further.
func (w *writerState) export(ctx context.Context) error {
	if w.job == nil {
		w.jobs++
		job, err := w.put(ctx, func(s *fhirserver.Server) (fhirserver.Resource, error) {
			return s.CreateExportStatus(ctx, fmt.Sprintf("job-%d-%d", w.number, w.jobs))
		})
		w.job = &job
		return err
	}
	status := "in-progress"
	if w.job.VersionID != "1" {
		status = []string{"completed", "entered-in-error"}[w.random.IntN(2)]
	}
	job, err := w.put(ctx, func(s *fhirserver.Server) (fhirserver.Resource, error) { return s.SetStatus(ctx, *w.job, status) })
	if w.job = &job; status != "in-progress" {
		w.job = nil
	}
	return err
}

// link links a patient to the writer's person, or takes the link away.
func (w *writerState) link(ctx context.Context) error {
	if w.person == nil {
		person, err := w.byHand.CreatePerson(ctx, fmt.Sprintf("person-of-%d", w.number))
		w.person = &person
		if err != nil {
			return err
		}
	}
	change := w.byHand.Link
	if w.linked {
		change = w.byHand.Unlink
	}
	person, err := change(ctx, *w.person, "linked-by-hand")
	if err != nil {
		return err
	}
	w.person, w.linked = &person, !w.linked
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions = append(w.versions, version{Resource: person, history: historyAtOnce})
	return nil
}

// put writes a version. When MongoDB did not say that it has it, put finds out and
// writes it again if need be, so that every version that is noted is there, once.
func (w *writerState) put(ctx context.Context, do func(*fhirserver.Server) (fhirserver.Resource, error)) (fhirserver.Resource, error) {
	h := historyNone
	if len(w.servers) > 1 {
		h = []history{historyNone, historyLate, historyAtOnce, historyAtOnce, historyAtOnce}[w.random.IntN(5)]
	}
	for {
		r, err := do(w.servers[h])
		if err != nil {
			there, e := w.holds(ctx, r)
			if e != nil {
				return r, errors.Join(err, e)
			}
			if !there {
				continue
			}
			h = historyNone // it may have failed
		}
		w.mu.Lock()
		w.versions = append(w.versions, version{Resource: r, history: h})
		w.mu.Unlock()
		return r, nil
	}
}

// holds asks until MongoDB answers whether it has the version. A linearizable read
// is answered when nothing before it can come to light or be rolled back any more.
func (l *load) holds(ctx context.Context, r fhirserver.Resource) (bool, error) {
	database, collection, _ := strings.Cut(r.Namespace, ".")
	coll := l.client.Database(database).Collection(collection, options.Collection().SetReadConcern(readconcern.Linearizable()))
	for {
		var found struct {
			Meta struct {
				VersionID   string    `bson:"versionId"`
				LastUpdated time.Time `bson:"lastUpdated"`
			} `bson:"meta"`
		}
		err := coll.FindOne(ctx, bson.D{{Key: "_uuid", Value: r.UUID}}).Decode(&found)
		switch {
		case err == nil:
			return found.Meta.VersionID == r.VersionID && found.Meta.LastUpdated.Equal(r.LastUpdated), nil
		case errors.Is(err, mongo.ErrNoDocuments):
			return false, nil
		}
		if e := pass(ctx, askAgain); e != nil {
			return false, errors.Join(e, err)
		}
	}
}
