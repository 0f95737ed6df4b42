package watcher_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// testCursorsAreClosed counts the cursors on the server. One that is left behind
// lives, with the memory and the locks it holds, for ten minutes.
func testCursorsAreClosed(t *testing.T, d *deployment) {
	before, err := d.openCursors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	const times = 20
	for name, spec := range map[string]watcher.Spec{
		"one database":      allOf(c.Database(), c.Name()),
		"the whole cluster": {Feeds: append(allOf(c.Database(), c.Name()).Feeds, allOf(d.client.Database("other"), "x").Feeds...)},
	} {
		w := d.watcher(t, spec, func(o *watcher.Options) { o.MaxBackoff = o.MinBackoff })
		from := begin(t, w)
		t.Run(name+", opened again", func(t *testing.T) {
			opened := d.opened.Load()
			d.failGetMore(t, times, bson.E{Key: "errorCode", Value: 8}) // The server's cursor lives on.
			insert(t, c, numbered(0, 1)...)
			inOrder(t, read(t, w, from, 1))
			if again := d.opened.Load() - opened - 1; again != times {
				t.Errorf("opened again %d times", again)
			}
			noMoreCursors(t, d, before)
		})
		t.Run(name+", stopped between two reads", func(t *testing.T) {
			for range times {
				read(t, w, from, 1)
			}
			noMoreCursors(t, d, before)
		})
		t.Run(name+", ended by the receiver after the driver has opened it again", func(t *testing.T) {
			enough := errors.New("enough")
			for range times {
				d.failGetMore(t, 1, bson.E{Key: "closeConnection", Value: true})
				ctx, cancel := bounded(t)
				defer cancel()
				if err := w.Run(ctx, from, func(_ context.Context, c watcher.Chunk) error {
					if len(c.Changes) == 0 {
						return nil
					}
					return enough
				}); !errors.Is(err, enough) {
					t.Fatal(err)
				}
			}
			noMoreCursors(t, d, before)
		})
		t.Run(name+", stopped while the server waits for changes", func(t *testing.T) {
			for range times {
				stopAfter(t, w, &d.asked)
			}
			noMoreCursors(t, d, before)
		})
		t.Run(name+", stopped while the server opens it", func(t *testing.T) {
			for range 5 * times {
				stopAfter(t, w, &d.opening)
			}
			noMoreCursors(t, d, before)
		})
		t.Run(name+", stopped while the driver opens it again", func(t *testing.T) {
			for range times {
				d.failGetMore(t, 1, bson.E{Key: "errorCode", Value: 43}) // CursorNotFound
				stopAfter(t, w, &d.failed)
			}
			noMoreCursors(t, d, before)
		})
	}
}

// testKillSessionsRefused breaks a stream again and again where the server answers to
// killSessions as Atlas's free and flexible tiers do: the stream goes on, and says once what
// may be left.
func testKillSessionsRefused(t *testing.T, d *deployment) {
	c := d.database(t, "fhir").Collection("Consent_4_0_0")
	core, logged := observer.New(zapcore.WarnLevel)
	w, err := watcher.New(d.client, d.options(allOf(c.Database(), c.Name()), func(o *watcher.Options) { o.MaxBackoff = o.MinBackoff }), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	from := begin(t, w)
	const breaks = 3
	opened := d.opened.Load()
	d.fail(t, "killSessions", 1000, bson.E{Key: "errorCode", Value: 8000})
	d.failAt(t, "failGetMoreAfterCursorCheckout", breaks, bson.E{Key: "errorCode", Value: 8})
	insert(t, c, numbered(0, 10)...)
	inOrder(t, read(t, w, from, 10))
	if again := d.opened.Load() - opened - 1; again != breaks {
		t.Errorf("opened again %d times, want %d", again, breaks)
	}
	if told := logged.FilterMessageSnippet("a cursor may be left on the server"); told.Len() != 1 {
		t.Errorf("told %d times that a cursor may be left: %v", told.Len(), told.All())
	}
}

// stopAfter stops a stream right after its next command of a kind is sent.
func stopAfter(t *testing.T, w *watcher.Watcher, sent *atomic.Int64) {
	t.Helper()
	ctx, cancel := bounded(t)
	before := sent.Load()
	stopped := make(chan error, 1)
	go func() {
		stopped <- w.Run(ctx, watcher.From{}, func(context.Context, watcher.Chunk) error { return nil })
	}()
	for sent.Load() == before { // at once: there may be no more than a moment
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

// openCursors is how many cursors the server has open.
func (d *deployment) openCursors(ctx context.Context) (int64, error) {
	return d.serverStatus(ctx, "metrics", "cursor", "open", "total")
}

// noMoreCursors waits until the server has no more cursors open than before.
func noMoreCursors(t *testing.T, d *deployment, before int64) {
	t.Helper()
	eventually(t, func() error {
		now, err := d.openCursors(t.Context())
		if err == nil && now > before {
			err = fmt.Errorf("%d cursors are open, %d were", now, before)
		}
		return err
	})
}
