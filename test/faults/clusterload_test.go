package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// clusterLoad is a FHIR server that writes through elections: some of its writers wait
// for the majority, the others for the primary alone, so that what they were told is
// written may be rolled back. What has become of a write is nowhere noted as in load: the
// oplog says it.
type clusterLoad struct {
	databases fhirserver.Databases
	random    uint64 // the seed
	rate      int    // changes a second
	majority  writing
	primary   writing

	mu sync.Mutex
	// kept are the ids of changes that the majority has, unsure of those that the primary
	// has had at least; newest is the last of kept of each writer.
	kept, unsure []string
	newest       map[int]string
	finished     bool
}

// writing is a connection of one write concern.
type writing struct {
	client *mongo.Client
	server *fhirserver.Server
}

const (
	// writeTimeout is how long a writer waits for a server that is frozen.
	writeTimeout = 5 * time.Second
	// Of the changes of a writer: those of each kind, in percent.
	exportPercent, deletePercent, updatePercent, transactionPercent, everythingPercent = 3, 4, 4, 3, 5
	// retirePercent is how often a resource is left alone for good. A writer whose
	// resource was rolled back away would write nothing more.
	retirePercent = 10
)

func newClusterLoad(t *testing.T, uri string, databases fhirserver.Databases, seed uint64, rate int) *clusterLoad {
	t.Helper()
	connect := func(w *writeconcern.WriteConcern) writing {
		client, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("fhir-server").SetWriteConcern(w))
		if err != nil {
			t.Fatalf("connect to MongoDB: %v", err)
		}
		t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
		return writing{client, fhirserver.New(client, fhirserver.Options{Databases: databases, HistoryDelay: fhirserver.NoHistory})}
	}
	return &clusterLoad{
		databases: databases, random: seed, rate: rate, newest: map[int]string{},
		majority: connect(writeconcern.Majority()), primary: connect(writeconcern.W1()),
	}
}

// prepare makes the collections: that of Consents keeps what a deletion deletes.
func (l *clusterLoad) prepare(ctx context.Context) error {
	images := options.CreateCollection().SetChangeStreamPreAndPostImages(bson.D{{Key: "enabled", Value: true}})
	if err := l.majority.client.Database(l.databases.Main).CreateCollection(ctx, "Consent_4_0_0", images); err != nil {
		return fmt.Errorf("create the collection of Consents: %w", err)
	}
	return l.majority.server.CreateIndexes(ctx)
}

// run writes until finish or ctx ends. An error of MongoDB's is what this is about.
func (l *clusterLoad) run(ctx context.Context) {
	var g errgroup.Group
	for n := range writers {
		w := &clusterWriter{clusterLoad: l, number: n, random: newRandom(l.random + uint64(n)), updated: map[string]bool{}, writing: l.majority}
		if n%2 == 1 {
			w.writing, w.unsafe = l.primary, true
		}
		g.Go(func() error { w.run(ctx); return nil })
	}
	_ = g.Wait() // none returns one
}

// begin runs the load beside the test. What it returns ends it.
func (l *clusterLoad) begin(ctx context.Context, t *testing.T) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	end = func() {
		l.mu.Lock()
		l.finished = true
		l.mu.Unlock()
		<-done
	}
	t.Cleanup(func() { cancel(); end() })
	return end
}

// acknowledged is how many changes the majority has said to have, and the primary alone.
func (l *clusterLoad) acknowledged() (majority, primary int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.kept), len(l.unsure)
}

// latest are the last changes that nothing can undo.
func (l *clusterLoad) latest() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for _, id := range l.newest {
		ids = append(ids, id)
	}
	return ids
}

func (l *clusterLoad) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.finished
}

// clusterWriter has resources of its own.
type clusterWriter struct {
	*clusterLoad
	writing
	number    int
	unsafe    bool
	random    *rand.Rand
	resources []fhirserver.Resource
	updated   map[string]bool // by _uuid
	created   int
	job       *fhirserver.Resource
}

func (w *clusterWriter) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second * writers / time.Duration(w.rate))
	defer ticker.Stop()
	for !w.ended() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		limited, cancel := context.WithTimeout(ctx, writeTimeout)
		w.change(limited)
		cancel()
	}
}

// chance is true that often in a hundred times.
func (w *clusterWriter) chance(percent int) bool { return w.random.IntN(100) < percent }

// change makes one change, or a few in a transaction. What has failed may have been
// written all the same: the resource is left alone, and the oplog tells.
func (w *clusterWriter) change(ctx context.Context) {
	if w.chance(everythingPercent) {
		_, _ = w.server.Everything(ctx, "person-1", 1+w.random.IntN(3), w.chance(50))
	}
	switch {
	case w.chance(exportPercent):
		w.export(ctx)
	case w.chance(deletePercent):
		w.delete(ctx)
	case w.chance(updatePercent):
		if r, ok := w.take(); ok {
			w.updated[r.UUID] = true
			w.put(w.server.Update(ctx, r, fhirserver.Set("status", "active")))
		}
	case !w.unsafe && w.chance(transactionPercent):
		w.transaction(ctx)
	default:
		w.put(w.consent(ctx))
	}
}

// delete deletes a resource, and creates it again now and then, with its first version:
// only the time tells it from the former. One that was updated stays: an update whose
// document is gone before it is looked up is a dead letter (docs/architecture.md).
func (w *clusterWriter) delete(ctx context.Context) {
	r, ok := w.take()
	switch {
	case !ok:
	case w.updated[r.UUID]:
		w.resources = append(w.resources, r)
	case w.server.Delete(ctx, r) == nil && w.chance(50):
		w.put(w.server.Create(ctx, r.Type, r.ID, fhirserver.Owner, w.server.Consent()))
	}
}

// take takes one of the resources.
func (w *clusterWriter) take() (fhirserver.Resource, bool) {
	if len(w.resources) == 0 {
		return fhirserver.Resource{}, false
	}
	n, last := w.random.IntN(len(w.resources)), len(w.resources)-1
	r := w.resources[n]
	w.resources[n] = w.resources[last]
	w.resources = w.resources[:last]
	return r, true
}

// put notes what was written.
func (w *clusterWriter) put(r fhirserver.Resource, err error) {
	if err != nil {
		return
	}
	w.note(r)
	if !w.chance(retirePercent) {
		w.resources = append(w.resources, r)
	}
}

// note keeps the id of what MongoDB has acknowledged.
func (w *clusterWriter) note(r fhirserver.Resource) {
	id := harness.ChangeID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsafe {
		w.unsure = append(w.unsure, id)
		return
	}
	w.kept = append(w.kept, id)
	w.newest[w.number] = id
}

// consent creates or replaces a Consent.
func (w *clusterWriter) consent(ctx context.Context) (fhirserver.Resource, error) {
	const resources = 20
	if len(w.resources) == resources || w.chance(60) {
		if r, ok := w.take(); ok {
			return w.server.ReplaceConsent(ctx, r)
		}
	}
	w.created++
	return w.server.CreateConsent(ctx, fmt.Sprintf("consent-%d-%d", w.number, w.created))
}

// transaction writes some Consents at once.
func (w *clusterWriter) transaction(ctx context.Context) {
	session, err := w.client.StartSession()
	if err != nil {
		return
	}
	defer session.EndSession(context.WithoutCancel(ctx))
	var written []fhirserver.Resource
	_, err = session.WithTransaction(ctx, func(ctx context.Context) (any, error) {
		written = nil // it may be tried again
		for range 2 + w.random.IntN(3) {
			r, err := w.consent(ctx)
			if err != nil {
				return nil, err
			}
			written = append(written, r)
		}
		return nil, nil
	})
	for _, r := range written {
		w.put(r, err)
	}
}

// export takes the writer's export job one status further.
func (w *clusterWriter) export(ctx context.Context) {
	var job fhirserver.Resource
	var err error
	if w.job == nil {
		w.created++
		job, err = w.server.CreateExportStatus(ctx, fmt.Sprintf("job-%d-%d", w.number, w.created))
	} else {
		job, err = w.server.SetStatus(ctx, *w.job, []string{"in-progress", "completed"}[w.random.IntN(2)])
	}
	w.job = nil
	if err != nil {
		return
	}
	w.note(job)
	if !w.chance(retirePercent) {
		w.job = &job
	}
}
