package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// Source is a collection to scan.
type Source struct {
	// Collection says how its documents are read as changes.
	mapper.Collection
	// Documents is where they are.
	Documents *mongo.Collection
	// Filter further restricts the documents; empty means none.
	Filter bson.D
}

// Name is "database.collection" of the documents.
func (s Source) Name() string { return s.Documents.Database().Name() + "." + s.Documents.Name() }

// Span is a range of times by the FHIR server's clock, at which versions were
// written. Both ends are included; a zero one is open. A document without such a
// time is in no span but the one that is open at both ends.
type Span struct{ Since, Until time.Time }

// Cursor is how far a scan has come: the _id of the last document of the collection
// that is done with, whether it was in the span or not. The zero Cursor is the
// beginning.
type Cursor struct{ bson.RawValue }

// IsZero tells whether c is the beginning.
func (c Cursor) IsZero() bool { return c.Type == 0 }

// Batch is consecutive documents of a scan, as the changes that wrote them.
type Batch struct {
	// Changes have no cluster time and no token. They stay valid.
	Changes []mapper.Change
	// After is the cursor after them. A scan that begins there goes on with the next.
	After Cursor
	// Scanned is how many documents of the collection were looked at since the last
	// Batch; without a span or filter it is the number of Changes.
	Scanned int64
	// Seen is an oplog time at or after that of every change that the batch may tell of.
	Seen bson.Timestamp
}

// Options are the settings of a Scanner. The zero value is ready for use.
type Options struct {
	// Chunk is how many documents of the collection one query looks at; default
	// 20,000. It bounds the server's work between two cursors, however few of the
	// documents are in the span.
	Chunk int
	// Batch is the most changes of a Batch; default 2,000.
	Batch int
}

const (
	defaultChunk = 20_000
	defaultBatch = 2_000
	// closeTimeout bounds the clean-up of a cursor that was left early.
	closeTimeout = 5 * time.Second
)

// Scanner reads collections as changes. It may be used by several goroutines.
type Scanner struct {
	mapper *mapper.Mapper
	opts   Options
}

// NewScanner returns a Scanner that reads documents with m.
func NewScanner(m *mapper.Mapper, opts Options) *Scanner {
	if opts.Chunk <= 0 {
		opts.Chunk = defaultChunk
	}
	if opts.Batch <= 0 {
		opts.Batch = defaultBatch
	}
	return &Scanner{mapper: m, opts: opts}
}

// Scan hands the changes of a collection's documents in a span to each, in _id
// order across all BSON types, beginning after a cursor. The last batch of a query
// may be empty: its cursor moves all the same. It reads what a majority has, from
// the primary, so what it hands over is not rolled back.
//
// It ends at the end of the collection, with each's error as it is, or with an
// error of MongoDB after a few attempts. A scan that goes on at the last cursor
// leaves nothing out that was there all the time.
func (s *Scanner) Scan(ctx context.Context, src Source, span Span, after Cursor, each func(context.Context, Batch) error) error {
	session, err := src.Documents.Database().Client().StartSession(options.Session().SetCausalConsistency(true))
	if err != nil {
		return fmt.Errorf("scan %s: %w", src.Name(), err)
	}
	defer session.EndSession(context.WithoutCancel(ctx))
	src.Documents = src.Documents.Clone(options.Collection().SetReadPreference(readpref.Primary()).SetReadConcern(readconcern.Majority()))
	// Not with the session: what each asks may be on another cluster, whose client
	// refuses it.
	receive := func(_ context.Context, b Batch) error { return each(ctx, b) }
	scan := &scan{Scanner: s, src: src, span: span, session: session, after: after, each: receive}
	for {
		more, err := retry(ctx, func() (bool, error) { return scan.chunk(mongo.NewSessionContext(ctx, session)) })
		if err != nil {
			var received *eachError
			if errors.As(err, &received) {
				return received.err
			}
			return fmt.Errorf("scan %s: %w", src.Name(), refused(src.Name(), err))
		}
		if !more {
			return nil
		}
	}
}

// Estimate is about how many documents a collection has; 0 if it is not there.
func (s *Scanner) Estimate(ctx context.Context, src Source) (int64, error) {
	n, err := retry(ctx, func() (int64, error) { return src.Documents.EstimatedDocumentCount(ctx) })
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", src.Name(), refused(src.Name(), err))
	}
	return n, nil
}

// scan is one Scan.
type scan struct {
	*Scanner
	src     Source
	span    Span
	session *mongo.Session
	after   Cursor
	each    func(context.Context, Batch) error
	// scanned counts the documents of the chunk that no batch has told of yet.
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
		SetProjection(s.src.Projection).SetBatchSize(int32(s.opts.Batch)).SetComment(comment))
	if err != nil {
		return false, err
	}
	defer closeCursor(ctx, cur)
	for {
		changes, err := s.read(ctx, cur)
		if err != nil {
			return false, err
		}
		b := Batch{Changes: changes, After: last}
		if len(changes) == s.opts.Batch {
			id := changes[len(changes)-1].Source.DocumentKey.Lookup("_id")
			b.After = Cursor{bson.RawValue{Type: id.Type, Value: bytes.Clone(id.Value)}}
			b.Scanned = int64(len(changes))
		}
		if err := s.emit(ctx, b); err != nil {
			return false, err
		}
		if len(changes) < s.opts.Batch {
			return n == int64(s.opts.Chunk), nil
		}
	}
}

func (s *scan) emit(ctx context.Context, b Batch) error {
	b.Scanned = min(max(b.Scanned, 0), s.scanned)
	if len(b.Changes) < s.opts.Batch {
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

// bound finds the last document of the next chunk by the _id index alone, and how
// many there are up to it. So a query in a span that few documents are in still
// ends soon, and how far a scan has come is known exactly.
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

// filter matches what is wanted of the documents after the cursor up to last.
func (s *scan) filter(last Cursor) bson.D {
	all := bson.A{bson.D{beyond("$lte", last)}}
	if !s.after.IsZero() {
		all = append(all, bson.D{beyond("$gt", s.after)})
	}
	for _, f := range []bson.D{s.src.Collection.Filter, s.src.Filter, s.span.filter(s.src.Time)} {
		if len(f) > 0 {
			all = append(all, f)
		}
	}
	return bson.D{{Key: "$and", Value: all}}
}

func (s Span) filter(field string) bson.D {
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

// read takes the cursor's next documents, up to a batch.
func (s *scan) read(ctx context.Context, cur *mongo.Cursor) ([]mapper.Change, error) {
	var changes []mapper.Change
	for len(changes) < s.opts.Batch && cur.Next(ctx) {
		var c mapper.Change
		s.mapper.Read(bytes.Clone(cur.Current), &c)
		changes = append(changes, c)
	}
	return changes, cur.Err()
}
