package watcher

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Kinds gives the kind of each collection of a database that the user has a right on; it needs no
// other right.
func Kinds(ctx context.Context, db *mongo.Database) (map[string]Kind, error) {
	all, err := db.ListCollectionSpecifications(ctx, bson.D{}, options.ListCollections().SetNameOnly(true).SetAuthorizedCollections(true))
	if err != nil {
		return nil, fmt.Errorf("list the collections of %s: %w", db.Name(), err)
	}
	kinds := map[string]Kind{}
	for _, c := range all {
		kinds[c.Name] = Kind(c.Type)
	}
	return kinds, nil
}

// Kind is the type of a collection, in MongoDB's words.
type Kind string

// Documents is the kind of a collection that has documents of its own. MongoDB's change
// streams tell nothing of the others, and open all the same.
const Documents Kind = "collection"

// Unwatched says why a collection has no changes; "" if it may have.
func (k Kind) Unwatched() string {
	switch k {
	case Documents, "":
		return ""
	case "timeseries":
		return "a time-series collection, which change streams leave out"
	}
	return fmt.Sprintf("a %s, which change streams leave out", string(k))
}
