package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// Collection is a collection to scan.
type Collection struct {
	// Collection says how its documents are read as changes.
	mapper.Collection
	// Documents is the MongoDB collection.
	Documents *mongo.Collection
	// Filter further restricts the documents; an empty one does not.
	Filter bson.D
	// After is an oplog time of the documents' cluster. A scan sees all writes up to it, and
	// all writes that the primary has when the scan asks it.
	After bson.Timestamp
}

// Name is "database.collection" of the documents.
func (s Collection) Name() string { return s.Documents.Database().Name() + "." + s.Documents.Name() }

// Period is a range of times by the FHIR server's clock, at which versions were
// written. Both ends are included; a zero one is open. A document without such a
// time is only in the period that is open at both ends.
type Period struct{ Since, Until time.Time }

// Cursor is the progress of a scan: the _id of the last document of the collection
// that has been handled, in the period or not. The zero Cursor is the beginning.
type Cursor struct{ bson.RawValue }

// IsZero tells whether c is the beginning.
func (c Cursor) IsZero() bool { return c.Type == 0 }

// Page is consecutive documents of a scan, as the changes that wrote them.
type Page struct {
	// Changes have no cluster time and no token. They stay valid.
	Changes []mapper.Change
	// After is the cursor after them. A scan that begins there goes on with the next page.
	After Cursor
	// Scanned is how many documents of the collection were looked at since the last
	// Page; without a period or filter it is the number of Changes.
	Scanned int64
	// Seen is an oplog time at or after the time of every change in the page.
	Seen bson.Timestamp
}

// Options are the settings of a Scanner. The zero value is ready for use.
type Options struct {
	// Chunk is how many documents of the collection one query looks at; default
	// 20,000. It bounds the server's work between two cursors, however few of the
	// documents are in the period.
	Chunk int
	// Page is the most changes of one Page; default 2,000. PageBytes bounds it too, but for its
	// last change, since a change may have a list of the document's length; default 8 MiB.
	Page, PageBytes int
	// Waits, if set, is called about every second with a collection that cannot be read yet,
	// because no majority has the primary's writes, and with "" when the wait is over.
	Waits func(collection string)
}

const (
	defaultChunk = 20_000
	defaultPage  = 2_000
	// defaultPageBytes is far more than that many changes have without such lists.
	defaultPageBytes = 8 << 20
	// closeTimeout bounds the clean-up of a cursor that was left early.
	closeTimeout = 5 * time.Second
)

// Scanner reads collections as changes. It may be used by several goroutines.
type Scanner struct {
	mapper *mapper.Mapper
	opts   Options
	// settled are the times that a majority of each cluster has, by client.
	settled *sync.Map
}

// NewScanner returns a Scanner that reads documents with m.
func NewScanner(m *mapper.Mapper, opts Options) *Scanner {
	if opts.Chunk <= 0 {
		opts.Chunk = defaultChunk
	}
	if opts.Page <= 0 {
		opts.Page = defaultPage
	}
	if opts.PageBytes <= 0 {
		opts.PageBytes = defaultPageBytes
	}
	if opts.Waits == nil {
		opts.Waits = func(string) {}
	}
	return &Scanner{mapper: m, opts: opts, settled: &sync.Map{}}
}

// Scan hands the changes of a collection's documents in a period to each, in _id
// order across all BSON types, beginning after a cursor. The last page of a query
// may be empty: its cursor moves all the same. Scan reads majority-committed documents
// only, and waits until these include all writes that the primary had when it was asked.
//
// A collection without change events (a view, a time-series collection) cannot lack
// events: Scan reads nothing of it and returns an *UnwatchedError.
//
// It ends at the end of the collection, with each's error as it is, or with an
// error of MongoDB after a few attempts. A scan that goes on at the last cursor
// misses no document that existed all the time.
func (s *Scanner) Scan(ctx context.Context, src Collection, period Period, after Cursor, each func(context.Context, Page) error) error {
	if err := s.Watched(ctx, src); err != nil {
		return err
	}
	// Each reading in the session sees at least the state that the readings before it saw.
	session, err := src.Documents.Database().Client().StartSession(options.Session().SetCausalConsistency(true))
	if err != nil {
		return fmt.Errorf("scan %s: %w", src.Name(), err)
	}
	defer session.EndSession(context.WithoutCancel(ctx))
	src.Documents = majority.Collection(src.Documents)
	// each gets no session: it may ask another cluster, whose client would refuse this
	// session.
	receive := func(_ context.Context, b Page) error { return each(ctx, b) }
	scan := &scan{Scanner: s, src: src, period: period, session: session, after: after, each: receive}
	for {
		more, err := Retry(ctx, func() (bool, error) {
			at, err := s.settle(ctx, src)
			if err == nil {
				err = session.AdvanceOperationTime(&at)
			}
			if err != nil {
				return false, err
			}
			return scan.chunk(mongo.NewSessionContext(ctx, session))
		})
		if err != nil {
			var received *eachError
			if errors.As(err, &received) {
				return received.err
			}
			return fmt.Errorf("scan %s: %w", src.Name(), finalIfRefused(src.Name(), err))
		}
		if !more {
			return nil
		}
	}
}

// Estimate is the approximate number of a collection's documents; 0 if it does not exist.
func (s *Scanner) Estimate(ctx context.Context, src Collection) (int64, error) {
	// The number decides nothing, so it need not wait for a majority to have the collection.
	documents := src.Documents.Clone(options.Collection().SetReadPreference(readpref.Primary()).SetReadConcern(readconcern.Local()))
	n, err := Retry(ctx, func() (int64, error) {
		return documents.EstimatedDocumentCount(ctx, options.EstimatedDocumentCount().SetComment(comment))
	})
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", src.Name(), finalIfRefused(src.Name(), err))
	}
	return n, nil
}

// scan is one Scan.
type scan struct {
	*Scanner
	src     Collection
	period  Period
	session *mongo.Session
	after   Cursor
	each    func(context.Context, Page) error
	// scanned counts the documents of the chunk that no page's Scanned includes yet.
	scanned int64
}

// chunk hands over the next documents. It is false at the collection's end.
func (s *scan) chunk(ctx context.Context) (more bool, err error) {
	n, last, err := s.bound(ctx)
	if err != nil || n == 0 {
		return false, err
	}
	s.scanned = n
	cur, err := s.src.Documents.Find(ctx, s.filter(last), options.Find().
		SetSort(bson.D{{Key: "_id", Value: 1}}).SetHint(bson.D{{Key: "_id", Value: 1}}).
		SetProjection(s.src.Projection).SetBatchSize(int32(s.opts.Page)).SetComment(comment))
	if err != nil {
		return false, err
	}
	defer closeCursor(ctx, cur)
	for {
		changes, full, err := s.read(ctx, cur)
		if err != nil {
			return false, err
		}
		b := Page{Changes: changes, After: last}
		if full {
			id := changes[len(changes)-1].Name.DocumentKey.Lookup("_id")
			b.After = Cursor{bson.RawValue{Type: id.Type, Value: bytes.Clone(id.Value)}}
			b.Scanned = int64(len(changes))
		}
		if err := s.emit(ctx, b, full); err != nil {
			return false, err
		}
		if !full {
			return n == int64(s.opts.Chunk), nil
		}
	}
}

func (s *scan) emit(ctx context.Context, b Page, full bool) error {
	b.Scanned = min(max(b.Scanned, 0), s.scanned)
	if !full {
		b.Scanned = s.scanned // the rest of the chunk
	}
	s.scanned -= b.Scanned
	if t := s.session.OperationTime(); t != nil {
		b.Seen = *t
	}
	if err := s.each(ctx, b); err != nil {
		return &eachError{err}
	}
	s.after = b.After
	return nil
}

// bound finds the last document of the next chunk and the number of documents up to it, by
// the _id index alone. So a query still ends soon if few documents are in the period, and
// the progress of the scan is exact.
func (s *scan) bound(ctx context.Context) (int64, Cursor, error) {
	match := bson.D{}
	if !s.after.IsZero() {
		match = bson.D{beyond("$gt", s.after)}
	}
	cur, err := s.src.Documents.Aggregate(ctx, mongo.Pipeline{
		{{Key: "$match", Value: match}},
		{{Key: "$sort", Value: bson.D{{Key: "_id", Value: 1}}}},
		{{Key: "$limit", Value: s.opts.Chunk}},
		{{Key: "$group", Value: bson.D{
			{Key: "_id", Value: nil}, {Key: "n", Value: bson.D{{Key: "$sum", Value: 1}}}, {Key: "last", Value: bson.D{{Key: "$last", Value: "$_id"}}},
		}}},
	}, options.Aggregate().SetHint(bson.D{{Key: "_id", Value: 1}}).SetComment(comment))
	if err != nil {
		return 0, Cursor{}, err
	}
	defer closeCursor(ctx, cur)
	if !cur.Next(ctx) {
		return 0, Cursor{}, cur.Err()
	}
	last := cur.Current.Lookup("last")
	return cur.Current.Lookup("n").AsInt64(), Cursor{bson.RawValue{Type: last.Type, Value: bytes.Clone(last.Value)}}, nil
}

// beyond compares _id with a cursor. In $expr a comparison holds across BSON types,
// in the index's order; outside it {_id: {$gt: …}} finds ids of the cursor's own
// type only, and a scan would end where the type does.
func beyond(operator string, c Cursor) bson.E {
	return bson.E{Key: "$expr", Value: bson.D{{Key: operator, Value: bson.A{"$_id", bson.D{{Key: "$literal", Value: c.RawValue}}}}}}
}

// filter matches the wanted documents after the cursor up to last.
func (s *scan) filter(last Cursor) bson.D {
	all := bson.A{bson.D{beyond("$lte", last)}}
	if !s.after.IsZero() {
		all = append(all, bson.D{beyond("$gt", s.after)})
	}
	for _, f := range []bson.D{s.src.Collection.Filter, s.src.Filter, s.period.filter(s.src.Time)} {
		if len(f) > 0 {
			all = append(all, f)
		}
	}
	return bson.D{{Key: "$and", Value: all}}
}

func (s Period) filter(field string) bson.D {
	var limits bson.D
	if !s.Since.IsZero() {
		limits = append(limits, bson.E{Key: "$gte", Value: s.Since})
	}
	if !s.Until.IsZero() {
		limits = append(limits, bson.E{Key: "$lte", Value: s.Until})
	}
	if len(limits) == 0 {
		return nil
	}
	return bson.D{{Key: field, Value: limits}}
}

// read reads the cursor's next documents, at most a page. It is full if there may be more.
func (s *scan) read(ctx context.Context, cur *mongo.Cursor) (changes []mapper.Change, full bool, err error) {
	size := 0
	for len(changes) < s.opts.Page && size < s.opts.PageBytes {
		if !cur.Next(ctx) {
			return changes, false, cur.Err()
		}
		var c mapper.Change
		s.mapper.Read(bytes.Clone(cur.Current), &c)
		changes, size = append(changes, c), size+len(cur.Current)
	}
	return changes, true, cur.Err()
}
