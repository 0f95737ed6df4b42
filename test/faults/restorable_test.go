package faults_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// restorable is a MongoDB whose files are the test's.
type restorable struct {
	*services.MongoDB
	t   *testing.T
	ctx context.Context
	// data is the folder of its files, kept a folder of others.
	data, kept string
	// written are the documents of all databases when keep was called.
	written map[string]map[string][]any
}

func newRestorable(ctx context.Context, t *testing.T) *restorable {
	t.Helper()
	dir := t.TempDir()
	r := &restorable{t: t, ctx: ctx, data: filepath.Join(dir, "data"), kept: filepath.Join(dir, "kept")}
	r.MongoDB = services.MongoDBForTest(t, services.MongoDBOptions{Dir: r.data, CacheGB: 0.25})
	return r
}

func (r *restorable) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// client is a new one: one that has known the set keeps to it.
func (r *restorable) client() *mongo.Client { return connect(r.t, r.URI) }

// stopped does something with the files while the server is down. Without a replica set in
// them it becomes one of the same name.
func (r *restorable) stopped(do func() error) {
	r.t.Helper()
	r.check(r.Stop(r.ctx))
	r.check(do())
	r.check(r.Start(r.ctx))
}

// withoutLocal is what MongoDB documents for a restore from files: the database local is
// dropped on a standalone server, and the set initiated anew.
func (r *restorable) withoutLocal() error {
	alone, err := services.StartMongoDB(r.ctx, services.MongoDBOptions{Dir: r.data, Standalone: true, CacheGB: 0.25})
	if err != nil {
		return err
	}
	if err := connect(r.t, alone.URI).Database("local").Drop(r.ctx); err != nil {
		return err
	}
	if err := alone.Stop(r.ctx); err != nil {
		return err
	}
	return alone.Close()
}

// dump notes all documents, as mongodump does.
func (r *restorable) dump() {
	r.t.Helper()
	r.written = map[string]map[string][]any{}
	client := r.client()
	databases, err := client.ListDatabaseNames(r.ctx, bson.D{{Key: "name", Value: bson.D{{Key: "$nin", Value: bson.A{"local", "admin", "config"}}}}})
	r.check(err)
	for _, database := range databases {
		r.written[database] = map[string][]any{}
		collections, err := client.Database(database).ListCollectionNames(r.ctx, bson.D{})
		r.check(err)
		for _, collection := range collections {
			cur, err := client.Database(database).Collection(collection).Find(r.ctx, bson.D{})
			r.check(err)
			var documents []bson.Raw
			r.check(cur.All(r.ctx, &documents))
			for _, d := range documents {
				r.written[database][collection] = append(r.written[database][collection], d)
			}
		}
	}
}

// fill writes them, as mongorestore does.
func (r *restorable) fill() {
	r.t.Helper()
	client := r.client()
	for database, collections := range r.written {
		for collection, documents := range collections {
			_, err := client.Database(database).Collection(collection).InsertMany(r.ctx, documents)
			r.check(err)
		}
	}
}

// restore is one way for a history to end, or not to.
type restore struct {
	// before is done before the daemons begin, after when they are down and resources have
	// been written.
	before, after func(r *restorable)
	// undone says that what was written since before is not there any more.
	undone bool
	// gaps is how many gaps each daemon finds.
	gaps int
}

func restores() map[string]restore {
	move := func(from, to string) error { return os.Rename(from, to) }
	return map[string]restore{
		"files without local": {after: func(r *restorable) { r.stopped(r.withoutLocal) }, gaps: 1},
		"a dump in a new set": {after: func(r *restorable) {
			r.dump()
			r.stopped(func() error { return emptied(r.data) })
			r.fill()
		}, gaps: 1},
		// All that comes now is later in the same set's oplog than any position.
		"a snapshot of the same set": {
			before: func(r *restorable) {
				r.stopped(func() error { return os.CopyFS(r.kept, os.DirFS(r.data)) })
			},
			after: func(r *restorable) {
				r.stopped(func() error {
					if err := os.RemoveAll(r.data); err != nil {
						return err
					}
					return move(r.kept, r.data)
				})
			},
			undone: true,
		},
		"an older cluster": {
			before: func(r *restorable) {
				r.stopped(func() error {
					if err := move(r.data, r.kept); err != nil {
						return err
					}
					return os.Mkdir(r.data, 0o700)
				})
			},
			after: func(r *restorable) {
				r.stopped(func() error {
					if err := os.RemoveAll(r.data); err != nil {
						return err
					}
					return move(r.kept, r.data)
				})
			},
			undone: true, gaps: 1,
		},
		"an oplog of another size": {after: func(r *restorable) {
			r.check(r.client().Database("admin").RunCommand(r.ctx, bson.D{{Key: "replSetResizeOplog", Value: 1}, {Key: "size", Value: 1000.0}}).Err())
		}},
	}
}

// emptied deletes what is in a folder.
func emptied(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o700)
}
