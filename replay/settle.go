package replay

import (
	"context"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// find hands over documents, valid during the call.
func (s *Scanner) find(ctx context.Context, src Collection, filter, projection any, each func(document bson.Raw)) error {
	at, err := s.settle(ctx, src)
	if err != nil {
		return err
	}
	ctx, end, err := majority.After(ctx, src.Documents.Database().Client(), at)
	if err != nil {
		return err
	}
	defer end()
	cur, err := majority.Collection(src.Documents).Find(ctx, filter, options.Find().
		SetProjection(projection).SetBatchSize(int32(s.opts.Page)).SetComment(comment))
	if err != nil {
		return err
	}
	defer closeCursor(ctx, cur)
	for cur.Next(ctx) {
		each(cur.Current)
	}
	return cur.Err()
}

// UnwatchedError says that change streams never deliver a change of a collection.
type UnwatchedError struct{ Collection, Why string }

func (e *UnwatchedError) Error() string { return e.Collection + " is " + e.Why }

// Watched returns an *UnwatchedError for a collection without change events, which has no
// _id index to scan by.
func (s *Scanner) Watched(ctx context.Context, src Collection) error {
	kinds, err := Retry(ctx, func() (map[string]watcher.Kind, error) { return watcher.Kinds(ctx, src.Documents.Database()) })
	if err != nil {
		return finalIfRefused(src.Name(), err)
	}
	if why := kinds[src.Documents.Name()].Unwatched(); why != "" {
		return &UnwatchedError{Collection: src.Name(), Why: why}
	}
	return nil
}

// Telling is the Scanner with another function for Options.Waits.
func (s *Scanner) Telling(waits func(collection string)) *Scanner {
	told := *s
	told.opts.Waits, told.settled = waits, &sync.Map{}
	return &told
}

// settle waits until a majority has all writes that the primary has now, and returns their time,
// after which a collection is to be read. A snapshot from before the newest writes would leave them out,
// even some from before the beginning of a repair.
//
// It asks and waits at most once in settleEvery for each cluster: a majority that is always a
// little behind must not hold up every small query.
func (s *Scanner) settle(ctx context.Context, src Collection) (bson.Timestamp, error) {
	client := src.Documents.Database().Client()
	asked := time.Now()
	last, ok := s.settled.Load(client)
	at, _ := last.(settledAt)
	if !ok || asked.Sub(at.asked) > settleEvery || at.newest.Before(src.After) {
		newest, err := majority.Newest(ctx, client)
		if err != nil {
			return bson.Timestamp{}, err
		}
		if newest.Before(src.After) {
			newest = src.After
		}
		defer s.opts.Waits("")
		if err := majority.Await(ctx, src.Documents, newest, comment, func() { s.opts.Waits(src.Name()) }); err != nil {
			return bson.Timestamp{}, err
		}
		at = settledAt{asked, newest}
		s.settled.Store(client, at)
	}
	return at.newest, nil
}

// settledAt is the newest time of a cluster that a majority has, and when it was asked for.
type settledAt struct {
	asked  time.Time
	newest bson.Timestamp
}

const settleEvery = time.Second

// Standstill notices that the reading of the oplog stands still before a known time, because
// no majority has the changes up to it.
type Standstill struct {
	// Lags, if set, is called about every second with the name of the reading that waits, and
	// with "" when the wait is over.
	Lags func(what string)

	token string
	since time.Time
}

// lagWorth is how long a majority may be behind the primary before Lags is called.
const lagWorth = time.Second

// Look takes the chunks one after the other, the empty ones too.
func (s *Standstill) Look(c watcher.Chunk, what string) {
	token, _ := tokens.Text(c.Token)
	switch {
	case s.Lags == nil:
	case token != s.token:
		s.token, s.since = token, time.Now()
	case time.Since(s.since) > lagWorth:
		s.since = time.Now()
		s.Lags(what)
	}
}

// End reports the end of the wait.
func (s *Standstill) End() {
	if s.Lags != nil {
		s.Lags("")
	}
}
