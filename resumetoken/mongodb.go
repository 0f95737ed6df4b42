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

	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/servererror"
)

// MongoDB keeps one stream's position in a document of a collection, whose _id
// is the stream's name. Each Acquire takes the document's next owner epoch and
// Save writes only under its own epoch, so a predecessor that is still alive
// can store nothing more. All writes wait for a majority: a failover must not take a
// position back. Reads have majority read concern too. A write that changed nothing has
// waited for a majority as well, so a read after it finds the reason.
type MongoDB struct {
	coll     *mongo.Collection
	stream   string
	instance string
	epoch    int64 // 0: not acquired
	last     bson.Timestamp
}

// comment names the commands of this store on the server.
const comment = "fhir-cdc/positions"

// mongoPosition is the stored document. Token and times are BSON's own types,
// so that an operator can query them.
type mongoPosition struct {
	Stream  string    `bson:"_id"`
	Epoch   int64     `bson:"epoch"`
	Owner   string    `bson:"owner"`
	Since   time.Time `bson:"since"`
	Stopped time.Time `bson:"stopped"`
	Version int       `bson:"v"`
	Saved   time.Time `bson:"saved"`
	Spot    mongoSpot `bson:",inline"`
	Paused  bool      `bson:"paused"`
	// Repair is the stored form of a Repair, as JSON text; "" for none.
	Repair string `bson:"repair"`
	// History, Layout, Published, Window and HandedTo are Position's.
	History   string      `bson:"history"`
	Layout    string      `bson:"layout"`
	Published []Published `bson:"published"`
	Window    *Window     `bson:"window"`
	HandedTo  int         `bson:"handedTo"`
	// Counts are Position's; a position without any leaves those that are stored.
	Counts *Counts `bson:"counts"`
	// Hours are the first positions of the last hours, oldest first.
	Hours []mongoSpot `bson:"hours"`
	// Now is the server's clock, computed when the document is read.
	Now time.Time `bson:"now"`
}

// mongoSpot is a position without its stream.
type mongoSpot struct {
	Token       bson.Raw       `bson:"token"`
	ClusterTime bson.Timestamp `bson:"clusterTime"`
	WallTime    time.Time      `bson:"wallTime"`
	Fingerprint string         `bson:"fingerprint"`
}

func spotOf(p Position) mongoSpot {
	return mongoSpot{Token: p.content(), ClusterTime: p.order(), WallTime: p.WallTime, Fingerprint: p.fingerprint()}
}

func (s mongoSpot) position(stream string, handedTo int) Position {
	p := Position{Stream: stream, WallTime: s.WallTime, HandedTo: handedTo}
	p.fill(s.Token, s.ClusterTime, s.Fingerprint)
	return p
}

func (d mongoPosition) position(stream string) (Position, error) {
	repair, err := repairFromText(d.Repair)
	if err != nil {
		return Position{}, err
	}
	p := d.Spot.position(stream, d.HandedTo)
	p.History, p.Layout, p.Published, p.Paused, p.Repair = d.History, d.Layout, Expand(d.Published), d.Paused, repair
	p.Window, p.Counts = d.Window, d.Counts
	return p, nil
}

// NewMongoDB is the store of a stream's position in coll, which need not exist.
// instance names this process in the document. The client stays the caller's.
func NewMongoDB(coll *mongo.Collection, stream, instance string) *MongoDB {
	written := options.Collection().SetWriteConcern(writeconcern.Majority())
	return &MongoDB{coll: majority.Collection(coll).Clone(written), stream: stream, instance: instance}
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
	m.epoch, m.last = doc.Epoch, bson.Timestamp{}
	if len(doc.Spot.Token) == 0 {
		return Position{}, ErrNone
	}
	if err := checkVersion(doc.Version); err != nil {
		return Position{}, m.failed("read", err)
	}
	m.last = doc.Spot.ClusterTime
	p, err := doc.position(m.stream)
	if err != nil {
		return Position{}, m.failed("read", err)
	}
	return p, nil
}

func (m *MongoDB) claim(ctx context.Context) (mongoPosition, error) {
	var doc mongoPosition
	err := m.coll.FindOneAndUpdate(ctx,
		bson.D{{Key: "_id", Value: m.stream}},
		bson.D{
			{Key: "$inc", Value: bson.D{{Key: "epoch", Value: int64(1)}}},
			{Key: "$set", Value: bson.D{{Key: "owner", Value: m.instance}}},
			{Key: "$currentDate", Value: bson.D{{Key: "since", Value: true}}},
			{Key: "$unset", Value: bson.D{{Key: "stopped", Value: ""}}},
		},
		options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After).SetComment(comment),
	).Decode(&doc)
	return doc, err
}

// Save implements Store.
func (m *MongoDB) Save(ctx context.Context, p Position) error {
	return m.save(ctx, p, bson.E{
		Key: "$or", Value: bson.A{
			// Also true where there is no clusterTime yet.
			bson.D{{Key: "clusterTime", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gt", Value: p.order()}}}}}},
			// A stream that was handed over begins anew.
			bson.D{{Key: "handedTo", Value: bson.D{{Key: "$gt", Value: 0}}}},
		},
	})
}

// Reset implements Keeper.
func (m *MongoDB) Reset(ctx context.Context, p Position) error { return m.save(ctx, p) }

func (m *MongoDB) save(ctx context.Context, p Position, condition ...bson.E) error {
	if m.epoch == 0 {
		return m.failed("save", errNotAcquired)
	}
	if p.IsZero() {
		return m.failed("save", errors.New("it has no token"))
	}
	repair, err := p.Repair.text()
	if err != nil {
		return m.failed("save", err)
	}
	spot := spotOf(p)
	filter := append(bson.D{{Key: "_id", Value: m.stream}, {Key: "epoch", Value: m.epoch}}, condition...)
	set := bson.D{
		{Key: "v", Value: max(version(p), handoverVersion)},
		{Key: "token", Value: spot.Token},
		{Key: "clusterTime", Value: spot.ClusterTime},
		{Key: "wallTime", Value: spot.WallTime},
		{Key: "fingerprint", Value: spot.Fingerprint},
		{Key: "paused", Value: p.Paused},
		{Key: "repair", Value: repair},
		{Key: "history", Value: p.History},
		{Key: "layout", Value: p.Layout},
		{Key: "published", Value: Abbreviate(p.Published)},
		{Key: "handedTo", Value: p.HandedTo},
	}
	if p.Window != nil {
		set = append(set, bson.E{Key: "window", Value: p.Window})
	}
	if p.Counts != nil {
		set = append(set, bson.E{Key: "counts", Value: p.Counts})
	}
	update := bson.D{
		{Key: "$set", Value: set},
		{Key: "$currentDate", Value: bson.D{{Key: "saved", Value: true}}},
	}
	if p.Window == nil {
		update = append(update, bson.E{Key: "$unset", Value: bson.D{{Key: "window", Value: ""}}})
	}
	if newHour(m.last, spot.ClusterTime) {
		update = append(update, bson.E{Key: "$push", Value: bson.D{{Key: "hours", Value: bson.D{
			{Key: "$each", Value: bson.A{spot}}, {Key: "$slice", Value: -historyHours},
		}}}})
	}
	result, err := m.coll.UpdateOne(ctx, filter, update, options.UpdateOne().SetComment(comment))
	if err != nil {
		return m.failed("save", err)
	}
	if result.MatchedCount == 0 {
		return m.failed("save", m.refusal(ctx, p))
	}
	m.last = spot.ClusterTime
	return nil
}

// refusal finds out why the document did not take a position.
func (m *MongoDB) refusal(ctx context.Context, p Position) error {
	var doc mongoPosition
	err := m.coll.FindOne(ctx, bson.D{{Key: "_id", Value: m.stream}}, options.FindOne().SetComment(comment)).Decode(&doc)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return errors.New("its document has been deleted")
	case err != nil:
		return err
	case doc.Epoch != m.epoch:
		return fmt.Errorf("%w: %q since %s", ErrFenced, doc.Owner, doc.Since.UTC().Format(time.RFC3339))
	}
	if err := checkForward(doc.Spot.ClusterTime, p.order()); err != nil {
		return err
	}
	return errors.New("its document changes under the owner's hands")
}

// Close implements Store. It records the stream's orderly end.
func (m *MongoDB) Close(ctx context.Context) error {
	epoch := m.epoch
	m.epoch = 0
	if epoch == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	// A shutdown does not wait for a server that does not answer: nothing depends on the note.
	_, _ = m.coll.UpdateOne(ctx,
		bson.D{{Key: "_id", Value: m.stream}, {Key: "epoch", Value: epoch}},
		bson.D{{Key: "$currentDate", Value: bson.D{{Key: "stopped", Value: true}}}},
		options.UpdateOne().SetComment(comment))
	return nil
}

func (m *MongoDB) failed(operation string, err error) error {
	namespace := m.coll.Database().Name() + "." + m.coll.Name()
	if servererror.LacksRight(err) {
		return fmt.Errorf("%s position of stream %q: the role needs find, insert and update on %s: %w", operation, m.stream, namespace, servererror.Coded(err))
	}
	return fmt.Errorf("%s position of stream %q in %s: %w", operation, m.stream, namespace, err)
}

var _ Keeper = (*MongoDB)(nil)

// Inspect implements Keeper.
func (m *MongoDB) Inspect(ctx context.Context) (Stored, error) {
	doc, err := m.read(ctx)
	if errors.Is(err, ErrNone) {
		return Stored{}, nil
	}
	if err != nil {
		return Stored{}, err
	}
	stored := Stored{
		Saved: doc.Saved, Now: doc.Now,
		Owner: Owner{Instance: doc.Owner, Since: doc.Since, Stopped: doc.Stopped, Seen: doc.Since},
	}
	if doc.Saved.After(doc.Since) {
		stored.Owner.Seen = doc.Saved
	}
	if len(doc.Spot.Token) > 0 {
		if stored.Position, err = doc.position(m.stream); err != nil {
			return stored, m.failed("read", err)
		}
	}
	return stored, nil
}

// History implements Keeper.
func (m *MongoDB) History(ctx context.Context) ([]Position, error) {
	doc, err := m.read(ctx)
	if err != nil && !errors.Is(err, ErrNone) {
		return nil, err
	}
	positions := make([]Position, len(doc.Hours))
	for i, hour := range doc.Hours {
		positions[i] = hour.position(m.stream, 0)
	}
	return inOrder(positions), nil
}

// read reads the stream's document without claiming it; ErrNone if there is none.
func (m *MongoDB) read(ctx context.Context) (doc mongoPosition, err error) {
	cursor, err := m.coll.Aggregate(ctx, mongo.Pipeline{
		bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: m.stream}}}},
		bson.D{{Key: "$addFields", Value: bson.D{{Key: "now", Value: "$$NOW"}}}},
	}, options.Aggregate().SetComment(comment))
	if err != nil {
		return doc, m.failed("read", err)
	}
	var docs []mongoPosition
	if err := cursor.All(ctx, &docs); err != nil {
		return doc, m.failed("read", err)
	}
	if len(docs) == 0 {
		return doc, ErrNone
	}
	if docs[0].Version != 0 {
		err = checkVersion(docs[0].Version)
	}
	if err != nil {
		return doc, m.failed("read", fmt.Errorf("its document: %w", err))
	}
	return docs[0], nil
}
