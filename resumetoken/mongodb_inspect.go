package resumetoken

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

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
		positions[i] = hour.position(m.stream)
	}
	return inOrder(positions), nil
}

// read reads the stream's document without claiming it; ErrNone if there is none.
func (m *MongoDB) read(ctx context.Context) (doc mongoPosition, err error) {
	cursor, err := m.coll.Aggregate(ctx, mongo.Pipeline{
		bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: m.stream}}}},
		bson.D{{Key: "$addFields", Value: bson.D{{Key: "now", Value: "$$NOW"}}}},
	})
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
