package watcher_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// patience is how long a test waits for what should come at once.
const patience = time.Minute

// TestOnMongoDB is everything that needs a replica set, on one server.
func TestOnMongoDB(t *testing.T) {
	t.Parallel() // mostly waiting
	uri := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true}).URI
	for _, c := range []struct {
		name string
		test func(*testing.T, *deployment)
	}{
		{"the recorded server's writes through the projection", testProjectionOfRecordedChanges},
		{"updates through the projection", testProjectionOfUpdates},
		{"deletes with and without pre-image", testProjectionOfDeletes},
		{"extensions of any shape", testExtensionsOfAnyShape},
		{"changes of documents of 15.9 MB", testLargeChanges},
		{"documents of 16 MB", testLargestValues},
		{"persons of 16 MB of links", testLargestLinks},
		{"several databases", testSeveralDatabases},
		{"only $everything of access logs", testAccessLogFilter},
		{"only $everything of AuditEvents", testAuditEventFilter},
		{"writes between Begin and Run", testBeginThenWriteThenRun},
		{"resuming in the middle of batches", testResumeInTheMiddle},
		{"dropped databases", testDroppedDatabase},
		{"errors that stop", testFatalErrors},
		{"errors to go on after", testErrorsToGoOnAfter},
		{"cursors do not pile up", testCursorsAreClosed},
		{"a server without killSessions", testKillSessionsRefused},
		{"slices", testSlices},
		{"slices where the server cannot hash", testSlicesUnsupported},
		{"scan", testScan},
		{"scan of another pipeline", testScanOfAnotherPipeline},
		{"oldest", testOldest},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, connect(t, uri)) })
	}
}

// deployment is a test's own databases on the server.
type deployment struct {
	client *mongo.Client
	// name is part of the databases' names and the name of the client.
	name string
	// opening and opened count the aggregate commands that were sent and that succeeded,
	// asked and failed the getMore commands that were sent and that failed.
	opening, opened, asked, failed atomic.Int64
}

func connect(t *testing.T, uri string) *deployment {
	t.Helper()
	d := &deployment{name: "watcher-" + bson.NewObjectID().Hex()}
	monitor := &event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			switch e.CommandName {
			case "aggregate":
				d.opening.Add(1)
			case "getMore":
				d.asked.Add(1)
			}
		},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			if e.CommandName == "aggregate" {
				d.opened.Add(1)
			}
		},
		Failed: func(_ context.Context, e *event.CommandFailedEvent) {
			if e.CommandName == "getMore" {
				d.failed.Add(1)
			}
		},
	}
	// A server that is asked, rather than one that tells, is found again at once after
	// an error that only a failpoint made.
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName(d.name).SetMonitor(monitor).
		SetServerMonitoringMode("poll").SetHeartbeatInterval(500 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	d.client = client
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return d
}

// database is a database of the test's own, dropped at its end.
func (d *deployment) database(t *testing.T, name string) *mongo.Database {
	t.Helper()
	db := d.client.Database(name + "-" + d.name)
	t.Cleanup(func() { _ = db.Drop(context.Background()) })
	return db
}

func (d *deployment) watcher(t *testing.T, spec watcher.Spec, configure ...func(*watcher.Options)) *watcher.Watcher {
	t.Helper()
	w, err := watcher.New(d.client, d.options(spec, configure...), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (d *deployment) options(spec watcher.Spec, configure ...func(*watcher.Options)) watcher.Options {
	o := watcher.Options{
		Name: d.name, Spec: spec, BatchSize: 1000, MaxAwait: 500 * time.Millisecond,
		Limits:     watcher.Limits{Records: 1000, Bytes: 8 << 20},
		MinBackoff: 10 * time.Millisecond, MaxBackoff: time.Second,
	}
	for _, c := range configure {
		c(&o)
	}
	return o
}

// allOf watches every operation on collections of a database.
func allOf(db *mongo.Database, collections ...string) watcher.Spec {
	var s watcher.Spec
	for _, c := range collections {
		s.Feeds = append(s.Feeds, watcher.Feed{Database: db.Name(), Collection: c})
	}
	return s
}

func begin(t *testing.T, w *watcher.Watcher) watcher.From {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	token, err := w.Begin(ctx, watcher.From{})
	if err != nil {
		t.Fatal(err)
	}
	return watcher.From{Token: token}
}

// read runs w until it has emitted n changes. It fails if there are more in the last
// chunk.
func read(t *testing.T, w *watcher.Watcher, from watcher.From, n int) []bson.Raw {
	t.Helper()
	changes, _ := readWithToken(t, w, from, n)
	return changes
}

func readWithToken(t *testing.T, w *watcher.Watcher, from watcher.From, n int) (changes []bson.Raw, token bson.Raw) {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	if err := w.Run(ctx, from, func(_ context.Context, c watcher.Chunk) error {
		changes, token = append(changes, c.Changes...), c.Token
		if len(changes) >= n {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(changes) != n {
		t.Fatalf("%d changes, want %d", len(changes), n)
	}
	return changes, token
}

// bounded is a context that ends when patience does. It has no deadline: the driver
// would tell the server, and a change stream ends with it.
func bounded(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(patience, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}

// fatal runs w until it stops and returns why.
func fatal(t *testing.T, w *watcher.Watcher, from watcher.From) *watcher.Error {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	err := w.Run(ctx, from, func(context.Context, watcher.Chunk) error { return nil })
	var stopped *watcher.Error
	if !errors.As(err, &stopped) {
		t.Fatalf("it did not stop with an Error: %v", err)
	}
	return stopped
}

func insert(t *testing.T, c *mongo.Collection, documents ...any) {
	t.Helper()
	if _, err := c.InsertMany(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
}

// numbered are documents {n: from}, {n: from+1}, … up to but not including until.
func numbered(from, until int) (documents []any) {
	for n := from; n < until; n++ {
		documents = append(documents, bson.D{{Key: "n", Value: n}})
	}
	return documents
}

// inOrder fails unless changes are the inserts of 0, 1, 2, …: nothing lost, nothing
// doubled.
func inOrder(t *testing.T, changes []bson.Raw) {
	t.Helper()
	for i, raw := range changes {
		if n, ok := raw.Lookup("fullDocument", "n").AsInt64OK(); !ok || int(n) != i {
			t.Fatalf("change %d is that of %d", i, n)
		}
	}
}

// eventually waits until condition holds.
func eventually(t *testing.T, condition func() error) {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

// serverStatus reads a number of the server's status.
func (d *deployment) serverStatus(ctx context.Context, path ...string) (int64, error) {
	raw, err := d.client.Database("admin").RunCommand(ctx, bson.D{{Key: "serverStatus", Value: 1}}).Raw()
	if err != nil {
		return 0, fmt.Errorf("server status: %w", err)
	}
	n, ok := raw.Lookup(path...).AsInt64OK()
	if !ok {
		return 0, fmt.Errorf("server status has no number %v", path)
	}
	return n, nil
}

// failGetMore makes the server answer the next getMore commands of this test with an
// error.
func (d *deployment) failGetMore(t *testing.T, times int, data ...bson.E) {
	t.Helper()
	d.fail(t, "getMore", times, data...)
}

// fail makes the server answer the next commands of a name with an error.
func (d *deployment) fail(t *testing.T, command string, times int, data ...bson.E) {
	t.Helper()
	d.failAt(t, "failCommand", times, append(bson.D{{Key: "failCommands", Value: bson.A{command}}}, data...)...)
}

// failAt makes one of the server's failpoints fail for this test's commands.
func (d *deployment) failAt(t *testing.T, failpoint string, times int, data ...bson.E) {
	t.Helper()
	set := func(mode any) error {
		return d.client.Database("admin").RunCommand(context.Background(), bson.D{
			{Key: "configureFailPoint", Value: failpoint},
			{Key: "mode", Value: mode},
			{Key: "data", Value: append(bson.D{{Key: "appName", Value: d.name}}, data...)},
		}).Err()
	}
	if err := set(bson.D{{Key: "times", Value: times}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set("off") })
}
