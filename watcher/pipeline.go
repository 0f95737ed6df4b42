package watcher

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Feed is one collection to watch.
type Feed struct {
	Database, Collection string
	// Operations are the operation types to let through.
	Operations []string
	// Filter is a further match expression on the change event; empty means none.
	Filter bson.D
}

// Spec is what one stream watches and how much of each change it wants.
type Spec struct {
	Feeds []Feed
	// Project is the $project stage; the server sends nothing else. It must keep
	// _id, which is the resume token.
	Project bson.D
	// PreImages asks for documents as they were before the change, where the
	// collection records them.
	PreImages bool
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

// Pipeline is the stream's pipeline: $match on namespaces and operations, as the
// server can apply to the oplog, then $project.
//
// Collections that share operations and have no filter of their own are one $in
// on ns.coll, which the server tests far faster than a list of namespaces.
func (s Spec) Pipeline() mongo.Pipeline {
	var clauses bson.A
	type group struct {
		database   string
		operations []string
		names      bson.A
	}
	var groups []*group
	for _, f := range s.Feeds {
		if len(f.Filter) > 0 {
			clause := bson.D{
				{Key: "ns.db", Value: f.Database},
				{Key: "ns.coll", Value: f.Collection},
				{Key: "operationType", Value: among(f.Operations)},
			}
			clauses = append(clauses, append(clause, f.Filter...))
			continue
		}
		i := slices.IndexFunc(groups, func(g *group) bool {
			return g.database == f.Database && slices.Equal(g.operations, f.Operations)
		})
		if i < 0 {
			groups = append(groups, &group{database: f.Database, operations: f.Operations})
			i = len(groups) - 1
		}
		groups[i].names = append(groups[i].names, f.Collection)
	}
	for _, g := range groups {
		clauses = append(clauses, bson.D{
			{Key: "ns.db", Value: g.database},
			{Key: "ns.coll", Value: bson.D{{Key: "$in", Value: g.names}}},
			{Key: "operationType", Value: among(g.operations)},
		})
	}
	clauses = append(clauses, s.lifecycle()...)
	match := bson.D{{Key: "$or", Value: clauses}}
	p := mongo.Pipeline{bson.D{{Key: "$match", Value: match}}}
	if len(s.Project) > 0 {
		p = append(p, bson.D{{Key: "$project", Value: s.Project}})
	}
	return p
}

// lifecycle lets the events through that end or rename what is watched, so that
// an operator can be told.
func (s Spec) lifecycle() bson.A {
	var clauses bson.A
	names := map[string]bson.A{}
	var databases []string
	for _, f := range s.Feeds {
		if names[f.Database] == nil {
			databases = append(databases, f.Database)
		}
		names[f.Database] = append(names[f.Database], f.Collection)
	}
	for _, d := range databases {
		clauses = append(clauses,
			bson.D{
				{Key: "ns.db", Value: d},
				{Key: "ns.coll", Value: bson.D{{Key: "$in", Value: names[d]}}},
				{Key: "operationType", Value: among([]string{"drop", "rename"})},
			},
			bson.D{{Key: "ns.db", Value: d}, {Key: "operationType", Value: "dropDatabase"}})
	}
	return append(clauses, bson.D{{Key: "operationType", Value: "invalidate"}})
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
