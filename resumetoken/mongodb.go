package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// MongoDB keeps one stream's position in a document of a collection, whose _id
// is the stream's name. Each Acquire takes the document's next owner epoch and
// Save writes only under its own epoch, so a predecessor that is still alive
// can store nothing more. All writes wait for a majority: a position that a
// failover could take back would be no position.
type MongoDB struct {
	coll     *mongo.Collection
	stream   string
	instance string
	epoch    int64 // 0: not acquired
}

// mongoPosition is the stored document. Token and times are BSON's own types,
// so that an operator can query them.
type mongoPosition struct {
	Stream      string         `bson:"_id"`
	Epoch       int64          `bson:"epoch"`
	Owner       string         `bson:"owner"`
	Since       time.Time      `bson:"since"`
	Version     int            `bson:"v"`
	Token       bson.Raw       `bson:"token"`
	ClusterTime bson.Timestamp `bson:"clusterTime"`
	WallTime    time.Time      `bson:"wallTime"`
	Fingerprint string         `bson:"fingerprint"`
}

// NewMongoDB is the store of a stream's position in coll, which need not exist.
// instance names this process in the document. The client stays the caller's.
func NewMongoDB(coll *mongo.Collection, stream, instance string) *MongoDB {
	majority := options.Collection().SetWriteConcern(writeconcern.Majority())
	return &MongoDB{coll: coll.Clone(majority), stream: stream, instance: instance}
}

// Acquire implements Store.
func (m *MongoDB) Acquire(ctx context.Context) (Position, error) {
	m.epoch = 0
	doc, err := m.claim(ctx)
	if mongo.IsDuplicateKeyError(err) {
		// Two processes made the document at the same time; now it is there.
		doc, err = m.claim(ctx)
	}
	if err != nil {
		return Position{}, m.failed("acquire", err)
	}
	m.epoch = doc.Epoch
	if len(doc.Token) == 0 {
		return Position{}, ErrNone
	}
	if err := checkVersion(doc.Version); err != nil {
		return Position{}, m.failed("read", err)
	}
	return Position{
		Stream:      m.stream,
		Token:       doc.Token,
		ClusterTime: doc.ClusterTime,
		WallTime:    doc.WallTime,
		Fingerprint: doc.Fingerprint,
	}, nil
}

func (m *MongoDB) claim(ctx context.Context) (mongoPosition, error) {
	var doc mongoPosition
	err := m.coll.FindOneAndUpdate(ctx,
		bson.D{{Key: "_id", Value: m.stream}},
		bson.D{
			{Key: "$inc", Value: bson.D{{Key: "epoch", Value: int64(1)}}},
			{Key: "$set", Value: bson.D{{Key: "owner", Value: m.instance}, {Key: "since", Value: time.Now()}}},
		},
		options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After),
	).Decode(&doc)
	return doc, err
}

// Save implements Store.
func (m *MongoDB) Save(ctx context.Context, p Position) error {
	if m.epoch == 0 {
		return m.failed("save", errNotAcquired)
	}
	if p.IsZero() {
		return m.failed("save", errors.New("it has no token"))
	}
	result, err := m.coll.UpdateOne(ctx,
		bson.D{
			{Key: "_id", Value: m.stream},
			{Key: "epoch", Value: m.epoch},
			// Also true where there is no clusterTime yet.
			{Key: "clusterTime", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gt", Value: p.ClusterTime}}}}},
		},
		bson.D{{Key: "$set", Value: bson.D{
			{Key: "v", Value: codecVersion},
			{Key: "token", Value: p.Token},
			{Key: "clusterTime", Value: p.ClusterTime},
			{Key: "wallTime", Value: p.WallTime},
			{Key: "fingerprint", Value: p.Fingerprint},
			{Key: "saved", Value: time.Now()},
		}}})
	if err != nil {
		return m.failed("save", err)
	}
	if result.MatchedCount == 0 {
		return m.failed("save", m.refusal(ctx, p))
	}
	return nil
}

// refusal finds out why the document did not take a position.
func (m *MongoDB) refusal(ctx context.Context, p Position) error {
	var doc mongoPosition
	err := m.coll.FindOne(ctx, bson.D{{Key: "_id", Value: m.stream}}).Decode(&doc)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return errors.New("its document has been deleted")
	case err != nil:
		return err
	case doc.Epoch != m.epoch:
		return fmt.Errorf("%w: %q since %s", ErrFenced, doc.Owner, doc.Since.UTC().Format(time.RFC3339))
	}
	if err := checkForward(doc.ClusterTime, p.ClusterTime); err != nil {
		return err
	}
	return errors.New("its document changes under the owner's hands")
}

// Close implements Store.
func (m *MongoDB) Close(context.Context) error {
	m.epoch = 0
	return nil
}

func (m *MongoDB) failed(operation string, err error) error {
	return fmt.Errorf("%s position of stream %q in %s.%s: %w",
		operation, m.stream, m.coll.Database().Name(), m.coll.Name(), err)
}
