package watcher

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Feed is one collection to watch.
type Feed struct {
	Database, Collection string
	// Filter is a match expression on the change event; empty lets every operation through.
	Filter bson.D
}

// Spec says which changes a stream reads, and which parts of each.
type Spec struct {
	Feeds []Feed
	// Project is the $project stage; the server sends nothing else. It must keep
	// _id, which is the resume token.
	Project bson.D
	// PreImages asks for documents as they were before the change, where the
	// collection records them.
	PreImages bool
	// Slice is the stream's share of the documents; the zero Slice is all of them.
	Slice Slice
}

// Database is the database that all feeds are in, or "" if there are several: then
// the stream has to be one over the cluster.
func (s Spec) Database() string {
	database := ""
	for i, f := range s.Feeds {
		if i > 0 && f.Database != database {
			return ""
		}
		database = f.Database
	}
	return database
}

// Pipeline is the stream's pipeline: $match on namespaces, as the server can apply to the
// oplog, then $project.
//
// It is made to be cheap for the server's one thread that a stream has, which is what
// limits a drain: the collections of a database that have no filter are one $in on
// ns.coll, as are those of one filter, a stream on one database does not test the database's
// name again, and one clause serves all lifecycle events. The $in is an expression, and no clause
// with it tests the operation unless its filter does, because the server makes several conditions
// of each plain test, and tests them all on each entry of the oplog (docs/benchmarks.md has the
// figures).
func (s Spec) Pipeline() mongo.Pipeline {
	type group struct {
		database string
		filter   bson.D
		names    bson.A
	}
	var filtered, whole []*group
	for _, f := range s.Feeds {
		list := &whole
		if len(f.Filter) > 0 {
			list = &filtered
		}
		i := slices.IndexFunc(*list, func(g *group) bool { return g.database == f.Database && reflect.DeepEqual(g.filter, f.Filter) })
		if i < 0 {
			i = len(*list)
			*list = append(*list, &group{database: f.Database, filter: f.Filter})
		}
		(*list)[i].names = append((*list)[i].names, f.Collection)
	}
	var clauses bson.A
	for _, g := range append(filtered, whole...) {
		names := bson.E{Key: "$expr", Value: bson.D{{Key: "$in", Value: bson.A{"$ns.coll", bson.D{{Key: "$literal", Value: g.names}}}}}}
		if len(g.filter) > 0 && len(g.names) == 1 {
			names = bson.E{Key: "ns.coll", Value: g.names[0]}
		}
		clauses = append(clauses, append(append(s.in(g.database), names), g.filter...))
	}
	if s.Slice.Of > 1 {
		// The hash comes last, for watched changes only.
		clauses = bson.A{bson.D{{Key: "$and", Value: bson.A{bson.D{{Key: "$or", Value: clauses}}, s.Slice.match()}}}}
	}
	// What ends or renames a collection comes through, whichever it is: the receiver
	// tells an operator about those that are watched.
	clauses = append(clauses, bson.D{{Key: "operationType", Value: among([]string{"drop", "rename", "dropDatabase", "invalidate"})}})
	p := mongo.Pipeline{bson.D{{Key: "$match", Value: bson.D{{Key: "$or", Value: clauses}}}}}
	if len(s.Project) > 0 {
		p = append(p, bson.D{{Key: "$project", Value: s.Project}})
	}
	return p
}

// in matches a database, where the stream covers more than one.
func (s Spec) in(database string) bson.D {
	if s.Database() != "" {
		return nil
	}
	return bson.D{{Key: "ns.db", Value: database}}
}

func among(names []string) bson.D { return bson.D{{Key: "$in", Value: names}} }

// Fingerprint is a hash of everything that a resume token depends on: the scope
// and the pipeline. A token taken under another fingerprint must not be used to
// resume (MongoDB: "the token belongs to its pipeline").
func (s Spec) Fingerprint() (string, error) {
	doc, err := bson.MarshalExtJSON(bson.D{
		{Key: "database", Value: s.Database()},
		{Key: "pipeline", Value: s.Pipeline()},
		{Key: "preImages", Value: s.PreImages},
	}, true, false)
	if err != nil {
		return "", fmt.Errorf("hash the pipeline: %w", err)
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:8]), nil
}
