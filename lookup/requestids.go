package lookup

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// The pauses between two looks at the history double from the first to the last
// of these. Half of the FHIR server's history documents come within 27 ms of the
// main write, nearly all within 406 ms.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// Version names one version of a resource, by what both its main document and its
// history document hold.
type Version struct {
	// Collection is the main collection, such as Consent_4_0_0.
	Collection string
	// UUID is the resource's _uuid.
	UUID string
	// VersionID is meta.versionId. It does not name a version by itself: a
	// resource that was deleted and created again starts at "1" again.
	VersionID string
	// LastUpdated is meta.lastUpdated; BSON keeps it in milliseconds.
	LastUpdated time.Time
	// ChangedAt is the server's wall clock at the change (wallTime). The zero
	// time is an old change: it is looked up and not waited for.
	ChangedAt time.Time
}

// RequestIDOptions are the settings of RequestIDs.
type RequestIDOptions struct {
	// Wait is how long after a change its history is waited for. 0 looks once.
	// ChangedAt and this process's clock are compared, so a clock that is ahead
	// of MongoDB's by more than Wait means no waiting, and one that is behind
	// means at most Wait for each batch.
	Wait time.Duration
	// Now and After stand in for time.Now and time.After in tests; nil is the
	// real clock.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// RequestIDStats are running totals since the start.
type RequestIDStats struct {
	// Queries is the number of finds that were sent to MongoDB.
	Queries int64
	// Found and Missing count the versions of finished calls.
	Found, Missing int64
	// Waited is the time spent in pauses between two looks.
	Waited time.Duration
}

// RequestIDs finds the id of the request that wrote a version: request.id in the
// version's history document, which the FHIR server writes 6 to 406 ms after the
// main document, from memory, so it may also never come.
//
// It may be used by several goroutines.
type RequestIDs struct {
	history historyReader
	wait    time.Duration
	now     func() time.Time
	after   func(time.Duration) <-chan time.Time

	mu    sync.Mutex
	stats RequestIDStats
}

// historyReader reads the history of the keys of one collection and calls found
// for each key that has one. It returns the number of queries it took.
type historyReader interface {
	read(ctx context.Context, collection string, keys []versionKey, found func(versionKey, string)) (int, error)
}

// versionKey is what a history document must agree with to belong to a version.
type versionKey struct {
	uuid, versionID string
	lastUpdated     int64 // Unix milliseconds, as in BSON
}

// NewRequestIDs returns a RequestIDs that reads from the history database. The
// database should read from the primary: a secondary is later than the change.
func NewRequestIDs(db *mongo.Database, opts RequestIDOptions) *RequestIDs {
	return newRequestIDs(&mongoHistory{db: db}, opts)
}

func newRequestIDs(history historyReader, opts RequestIDOptions) *RequestIDs {
	r := &RequestIDs{history: history, wait: max(opts.Wait, 0), now: opts.Now, after: opts.After}
	if r.now == nil {
		r.now = time.Now
	}
	if r.after == nil {
		r.after = time.After
	}
	return r
}

// Stats returns the totals so far.
func (r *RequestIDs) Stats() RequestIDStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Find returns the request id of each version, in the order of versions; "" where
// there is none by the time the wait is over. Leave out what never has history
// (ExportStatus), or every batch with one waits in vain.
//
// A version is waited for until ChangedAt + Wait and never beyond Wait after the
// call, so old changes (a backlog) cost one query and no waiting.
//
// It returns the context's error as soon as the context ends, and MongoDB's
// errors wrapped; a missing permission says which one.
func (r *RequestIDs) Find(ctx context.Context, versions []Version) ([]string, error) {
	search := newSearch(versions, r.now(), r.wait)
	pause := firstPause
	for {
		if err := r.look(ctx, search); err != nil {
			return nil, err
		}
		left, more := search.giveUp(r.now())
		if !more {
			break
		}
		if err := r.pause(ctx, min(pause, left)); err != nil {
			return nil, err
		}
		pause = min(2*pause, lastPause)
	}
	ids, found := search.results(versions)
	r.mu.Lock()
	r.stats.Found += int64(found)
	r.stats.Missing += int64(len(ids) - found)
	r.mu.Unlock()
	return ids, nil
}

// look asks once for everything that is still missing.
func (r *RequestIDs) look(ctx context.Context, s *search) error {
	for _, g := range s.groups {
		if len(g.pending) == 0 {
			continue
		}
		n, err := r.history.read(ctx, g.collection, g.keys(), g.add)
		r.mu.Lock()
		r.stats.Queries += int64(n)
		r.mu.Unlock()
		if err != nil {
			return err
		}
		g.pending = slices.DeleteFunc(g.pending, func(w wanted) bool { return g.found[w.key] != "" })
	}
	return nil
}

func (r *RequestIDs) pause(ctx context.Context, d time.Duration) error {
	from := r.now()
	defer func() {
		r.mu.Lock()
		r.stats.Waited += r.now().Sub(from)
		r.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for history: %w", ctx.Err())
	case <-r.after(d):
		return nil
	}
}
