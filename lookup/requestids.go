package lookup

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Version names one version of a resource, by fields that both its main document and its
// history document have.
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
	// Age is the version's age at the look-up, by MongoDB's clock. Find looks up a version
	// that is older than the wait, and does not wait for it.
	Age time.Duration
	// Links asks for the links of the version before too, unless Enough says that the version's
	// own history document is enough.
	Links bool
	// LinksBefore are the links of the version before as an earlier look has found them, else nil.
	// They are asked for again only when the version's own document has come.
	LinksBefore bson.RawArray
	// Enough tells whether an answer says all that is asked for; nil asks for a request id.
	Enough func(Answer) bool
}

// Answer is what the history tells of a version; nothing so far is the zero Answer.
type Answer struct {
	// RequestID is the id of the request that wrote the version, "" while its document is missing.
	// Of a version with Links, URL is the request's too, and Answered says that the document has a
	// response.
	RequestID, URL string
	Answered       bool
	// Before are the links of the version before, with Links. It is nil while that version is
	// missing.
	Before bson.RawArray
	// Complete is what the version's Enough says.
	Complete bool
}

// RequestIDOptions are the settings of RequestIDs.
type RequestIDOptions struct {
	// Wait is how long the history of one version may take; see Patience for several
	// versions. 0 looks once.
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
	// Found and Missing count the versions with a request id, and those given up.
	Found, Missing int64
}

// RequestIDs finds the id of the request that wrote a version: request.id in the
// version's history document. The FHIR server writes that after the main document, from
// memory, so it may also never come. For a version with Links it also finds who changed them.
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

// historyReader reads the history of one collection. Both methods return the number of queries.
type historyReader interface {
	// read calls found for each document of the keys that tells a request id.
	read(ctx context.Context, collection string, links bool, keys []versionKey, found func(versionKey, answer)) (int, error)
	// before calls found for each document of the keys' resources that has the number before, or
	// is of a delete.
	before(ctx context.Context, collection string, keys []versionKey, found func(earlier)) (int, error)
}

// versionKey are the fields by which a history document is matched with a version.
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

// Look asks once and returns the answer of each version, in the order of versions. The caller
// reports versions that it gives up with GiveUp.
//
// It returns the context's error as soon as the context ends, and MongoDB's
// errors wrapped; a missing permission says which one.
func (r *RequestIDs) Look(ctx context.Context, versions []Version) ([]Answer, error) {
	search := newSearch(versions)
	if err := r.look(ctx, search); err != nil {
		return nil, err
	}
	return r.results(search), nil
}

// results returns the answers, and counts those found.
func (r *RequestIDs) results(s *search) []Answer {
	answers, found := s.results()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Found += int64(found)
	return answers
}

// GiveUp counts versions for which the caller stops asking although no id was found.
func (r *RequestIDs) GiveUp(versions int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Missing += int64(versions)
}

// Find is Look for callers that have nothing else to do meanwhile: it waits, and
// a version may have no answer at the end of the wait. The caller leaves out resources that
// never have history (ExportStatus), or every batch with one waits in vain. Old changes (a
// backlog) cost one query and no waiting.
func (r *RequestIDs) Find(ctx context.Context, versions []Version) ([]Answer, error) {
	search, began := newSearch(versions), r.now()
	if err := r.look(ctx, search); err != nil {
		return nil, err
	}
	wait, pause := r.Patience(search.missing()), time.Duration(0)
	for {
		waited := r.now().Sub(began)
		left, more := search.giveUp(wait - waited)
		if !more {
			break
		}
		pause = NextPause(pause, waited)
		if err := r.pause(ctx, min(pause, left)); err != nil {
			return nil, err
		}
		if err := r.look(ctx, search); err != nil {
			return nil, err
		}
	}
	answers := r.results(search)
	missing := 0
	for i := range answers {
		if !answers[i].Complete {
			missing++
		}
	}
	r.GiveUp(missing)
	return answers, nil
}

// look asks once for everything that is still missing.
func (r *RequestIDs) look(ctx context.Context, s *search) error {
	for _, g := range s.groups {
		if len(g.pending) == 0 {
			continue
		}
		n, err := r.history.read(ctx, g.collection, g.links, g.keys(), g.add)
		r.queried(n)
		if err != nil {
			return err
		}
		g.settle()
		keys := g.before()
		if len(keys) == 0 {
			continue
		}
		var all []earlier
		n, err = r.history.before(ctx, g.collection, keys, func(e earlier) { all = append(all, e) })
		r.queried(n)
		if err != nil {
			return err
		}
		g.addBefore(all)
		g.settle()
	}
	return nil
}

func (r *RequestIDs) queried(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Queries += int64(n)
}

func (r *RequestIDs) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for history: %w", ctx.Err())
	case <-r.after(d):
		return nil
	}
}

// How long history may take. The FHIR server writes the history of all resources of one
// request at once, when it has written all of them. After a create at 37 a second history
// came within 0.24 s (the median) to 0.97 s, after a $merge of 200 resources within 3.4 to
// 4.6 s, on a busy machine 19 s, after one of 500 within 7.7 to 14.5 s. Until then the
// number of waiting versions is the only sign that history is under way.
const (
	// share: each further version that waits at the same time adds 1/share of the wait for
	// one version to the wait of all.
	share = 10
	// most bounds the wait, as a multiple of the wait for one version.
	most = 30
)

// The pauses between two looks double from firstPause to lastPause. Later ones are 1/share
// of the time that has passed, so that a long wait costs few queries.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// Patience is how long a version waits for its history while n versions wait. For n = 1 it
// is the option Wait.
func (r *RequestIDs) Patience(n int) time.Duration {
	n = min(max(n, 1), 1+most*share)
	return min(r.wait+r.wait/share*time.Duration(n-1), Longest(r.wait))
}

// Longest is the longest wait for history, if the wait for a single version is wait.
func Longest(wait time.Duration) time.Duration { return most * wait }

// NextPause is the pause before the next look, given the pause before (0 for the first) and
// the time waited since the first look.
func NextPause(pause, waited time.Duration) time.Duration {
	return max(min(max(2*pause, firstPause), lastPause), waited/share)
}
