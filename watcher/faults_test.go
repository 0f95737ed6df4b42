package watcher_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

func small(o *watcher.Options) {
	o.BatchSize = 10
	o.Limits.Records = 7
}

func testBeginThenWriteThenRun(t *testing.T, d *deployment) {
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	insert(t, c, bson.D{{Key: "n", Value: "before"}})
	w := d.watcher(t, allOf(c.Database(), c.Name()))
	from := begin(t, w)
	insert(t, c, numbered(0, 100)...)
	// Another process, which knows the token only.
	inOrder(t, read(t, d.watcher(t, allOf(c.Database(), c.Name())), from, 100))
}

func testResumeInTheMiddle(t *testing.T, d *deployment) {
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	w := d.watcher(t, allOf(c.Database(), c.Name()), small)
	from := begin(t, w)
	insert(t, c, numbered(0, 50)...)
	var all []bson.Raw
	for len(all) < 50 {
		ctx, cancel := bounded(t)
		if err := w.Run(ctx, from, func(_ context.Context, chunk watcher.Chunk) error {
			if len(chunk.Changes) > 0 {
				all = append(all, chunk.Changes...)
				from.Token = chunk.Token
				cancel()
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	inOrder(t, all)
}

// testDroppedDatabase drops the database of a stream over one database: the server
// ends such a stream.
func testDroppedDatabase(t *testing.T, d *deployment) {
	db := d.database(t, "fhir")
	w := d.watcher(t, allOf(db, "Consent_4_0_0"))
	from := begin(t, w)
	for n := range 3 {
		insert(t, db.Collection("Consent_4_0_0"), numbered(n, n+1)...)
		if err := db.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, db.Collection("Consent_4_0_0"), numbered(3, 4)...)
	var operations []string
	var inserts []bson.Raw
	for _, raw := range read(t, w, from, 3*4+1) {
		operations = append(operations, raw.Lookup("operationType").StringValue())
		if operations[len(operations)-1] == "insert" {
			inserts = append(inserts, raw)
		}
	}
	if got, want := strings.Join(operations, " "), strings.Repeat("insert drop dropDatabase invalidate ", 3)+"insert"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	inOrder(t, inserts)
}

func testFatalErrors(t *testing.T, d *deployment) {
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	insert(t, c, numbered(0, 1)...)
	spec := allOf(c.Database(), c.Name())
	token := func(data string) watcher.From {
		raw, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
		if err != nil {
			t.Fatal(err)
		}
		return watcher.From{Token: raw}
	}
	unknown := spec
	unknown.Project = bson.D{{Key: "x", Value: bson.D{{Key: "$noSuchExpression", Value: 1}}}}
	for name, test := range map[string]struct {
		spec watcher.Spec
		from watcher.From
		fail []bson.E
		want watcher.Class
		hint string
	}{
		"history lost, as the server reports it": {spec, watcher.From{}, []bson.E{{Key: "errorCode", Value: 286}}, watcher.HistoryLost, "nothing was skipped"},
		"marked by the server": {spec, watcher.From{}, []bson.E{
			{Key: "errorCode", Value: 8}, {Key: "errorLabels", Value: bson.A{"NonResumableChangeStreamError"}},
		}, watcher.HistoryLost, "nothing was skipped"},
		"a token that is none":    {spec, token("none"), nil, watcher.HistoryLost, "nothing was skipped"},
		"a token cut short":       {spec, token("826B0391"), nil, watcher.HistoryLost, "nothing was skipped"},
		"a token of another form": {spec, token("FFFF"), nil, watcher.HistoryLost, "nothing was skipped"},
		"an expression not known": {unknown, watcher.From{}, nil, watcher.Unsupported, "6.0"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.fail != nil {
				d.failGetMore(t, 1, test.fail...)
			}
			stopped := fatal(t, d.watcher(t, test.spec), test.from)
			if stopped.Class != test.want || !strings.Contains(stopped.Hint, test.hint) {
				t.Errorf("class %d, %v", stopped.Class, stopped)
			}
		})
	}
}

func testErrorsToGoOnAfter(t *testing.T, d *deployment) {
	for name, fail := range map[string]bson.E{
		"InterruptedAtShutdown": {Key: "errorCode", Value: 11600},
		"NotWritablePrimary":    {Key: "errorCode", Value: 10107},
		"CursorNotFound":        {Key: "errorCode", Value: 43},
		"CursorKilled":          {Key: "errorCode", Value: 237},
		"an unknown error":      {Key: "errorCode", Value: 77777},
		"connection closed":     {Key: "closeConnection", Value: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := d.database(t, "fhir").Collection("Consent_4_0_0")
			if err := c.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
			w := d.watcher(t, allOf(c.Database(), c.Name()), small)
			from := begin(t, w)
			insert(t, c, numbered(0, 100)...)
			before := d.failed.Load()
			const failures = 3 * 3
			d.failGetMore(t, 3, fail)
			ctx, cancel := bounded(t)
			defer cancel()
			var all []bson.Raw
			next := 40
			if err := w.Run(ctx, from, func(_ context.Context, chunk watcher.Chunk) error {
				all = append(all, chunk.Changes...)
				switch {
				case len(all) == 300:
					cancel()
				case len(all) >= next && next < 240: // At 40 and 140: more errors, more changes.
					insert(t, c, numbered(next+60, next+160)...)
					d.failGetMore(t, 3, fail)
					next += 100
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if len(all) != 300 {
				t.Fatalf("%d changes", len(all))
			}
			inOrder(t, all)
			if failed := d.failed.Load() - before; failed < failures {
				t.Errorf("only %d of %d errors", failed, failures)
			}
		})
	}
}

func TestStandalone(t *testing.T) {
	d := connect(t, services.MongoDBForTest(t, services.MongoDBOptions{Standalone: true}).URI)
	w := d.watcher(t, allOf(d.client.Database("fhir"), "Consent_4_0_0"))
	began := time.Now()
	stopped := fatal(t, w, watcher.From{})
	if stopped.Class != watcher.NotReplicaSet || !strings.Contains(stopped.Error(), "--replSet") {
		t.Errorf("class %d: %v", stopped.Class, stopped)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel() // mostly waiting
	uri, err := url.Parse(services.MongoDBForTest(t, services.MongoDBOptions{Auth: true}).URI)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "not-the-password"
	admin := connect(t, uri.String())
	if err := admin.client.Database("admin").RunCommand(t.Context(), bson.D{
		{Key: "createUser", Value: "reader"},
		{Key: "pwd", Value: secret},
		{Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "read"}, {Key: "db", Value: "other"}}}},
	}).Err(); err != nil {
		t.Fatal(err)
	}
	for name, login := range map[string]*url.Userinfo{
		"a wrong password": url.UserPassword(uri.User.Username(), secret),
		"an unknown user":  url.UserPassword("nobody", secret),
		"missing rights":   url.UserPassword("reader", secret),
	} {
		t.Run(name, func(t *testing.T) {
			other := *uri
			other.User = login
			d := connect(t, other.String())
			stopped := fatal(t, d.watcher(t, allOf(d.client.Database("fhir"), "Consent_4_0_0")), watcher.From{})
			if stopped.Class != watcher.Unauthorized || strings.Contains(stopped.Error(), secret) {
				t.Errorf("class %d: %v", stopped.Class, stopped)
			}
		})
	}
	t.Run("enough rights", func(t *testing.T) {
		other := *uri
		other.User = url.UserPassword("reader", secret)
		d := connect(t, other.String())
		w := d.watcher(t, allOf(d.client.Database("other"), "x"))
		begin(t, w)
		for range 20 { // Sessions may be ended that are the login's own.
			stopAfter(t, w, &d.opening)
		}
		noMoreCursors(t, admin, 0)
	})
}
