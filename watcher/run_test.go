package watcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

var errBroken = errors.New("connection reset")

// tokensOf are where the stream was opened.
func (o *openings) tokens() (all []string) {
	for _, f := range o.from {
		all = append(all, data(f.Token))
	}
	return all
}

func TestRunOpensAgainAfterTheLastChunkThatWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scripts := []*script{
			newScript(t, "start", step{changes: []string{"1", "2"}, token: "3"}, step{err: errBroken}),
			newScript(t, "3", step{err: errBroken}),                   // nothing read: from the same place
			newScript(t, "3", step{token: "4"}, step{err: errBroken}), // an idle stream's token counts
			newScript(t, "4", step{changes: []string{"5"}, token: "5"}),
		}
		w, o := scripted(t, scripts[0], errBroken, scripts[1], scripts[2], errBroken, scripts[3])
		var got []string
		for _, c := range runUntil(t, w, 7) {
			got = append(got, see(c).changes...)
		}
		if want := []string{"1", "2", "5"}; !slices.Equal(got, want) {
			t.Errorf("changes %q, want %q", got, want)
		}
		if want := []string{"start", "3", "3", "3", "4", "4"}; !slices.Equal(o.tokens(), want) {
			t.Errorf("opened at %q, want %q", o.tokens(), want)
		}
		for i, s := range scripts {
			if s.closed != 1 || s.closedWith != nil {
				t.Errorf("cursor %d: closed %d times, with a context that has the error %v", i, s.closed, s.closedWith)
			}
		}
	})
}

func TestRunOpensAgainAtTheSameTimeUntilThereIsAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := scripted(t, errBroken, newScript(t, "1"))
		ctx, cancel := context.WithCancel(t.Context())
		at := bson.Timestamp{T: 5, I: 6}
		if err := w.Run(ctx, From{ClusterTime: at}, func(context.Context, Chunk) error { cancel(); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(o.from) != 2 || o.from[1].ClusterTime != at || o.from[1].Token != nil {
			t.Errorf("opened at %+v", o.from)
		}
	})
}

func TestRunOpensAgainAfterAnInvalidateEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newScript(t, "start", step{changes: []string{"drop", "invalidate"}, token: "invalidate", end: true})
		w, o := scripted(t, first, newScript(t, "invalidate", step{changes: []string{"after"}, token: "after"}))
		var got []seen
		for _, c := range runUntil(t, w, 5) {
			got = append(got, see(c))
		}
		want := []seen{
			{nil, "start"}, {[]string{"drop", "invalidate"}, "invalidate"}, {nil, "invalidate"}, // its last chunk
			{nil, "invalidate"}, {[]string{"after"}, "after"},
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(seen{})); diff != "" {
			t.Error(diff)
		}
		if want := []string{"start", "invalidate"}; !slices.Equal(o.tokens(), want) {
			t.Errorf("opened at %q, want %q", o.tokens(), want)
		}
	})
}

func TestRunReturnsTheReceiversErrorAsItIs(t *testing.T) {
	s := newScript(t, "start", step{changes: []string{"1"}, token: "1"})
	w, o := scripted(t, s)
	want := errors.New("no more")
	err := w.Run(t.Context(), From{}, func(_ context.Context, c Chunk) error {
		if len(c.Changes) > 0 {
			return want
		}
		return nil
	})
	if err != want { //nolint:errorlint // as it is, not wrapped.
		t.Errorf("got %v", err)
	}
	if s.closed != 1 || len(o.from) != 1 {
		t.Errorf("closed %d times, opened %d times", s.closed, len(o.from))
	}
}

func TestRunReturnsTheReceiversErrorThoughTheContextHasEnded(t *testing.T) {
	w, _ := scripted(t, newScript(t, "start"))
	ctx, cancel := context.WithCancel(t.Context())
	err := w.Run(ctx, From{}, func(ctx context.Context, _ Chunk) error { cancel(); return ctx.Err() })
	if err != context.Canceled { //nolint:errorlint // as it is, not wrapped.
		t.Errorf("got %v", err)
	}
}

func TestRunEndsWithTheContext(t *testing.T) {
	for name, c := range map[string]struct {
		first step
		then  []any
	}{
		"while it waits for changes":       {step{wait: true}, nil},
		"in the pause before the next try": {step{err: errBroken}, nil},
		"in a pause after many tries":      {step{err: errBroken}, slices.Repeat([]any{errBroken}, 20)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(t, "start", c.first)
				w, _ := scripted(t, append([]any{s}, c.then...)...)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() {
					ended <- w.Run(ctx, From{}, func(context.Context, Chunk) error { return nil })
				}()
				if len(c.then) > 0 {
					<-time.After(20 * time.Second)
				}
				synctest.Wait() // until it waits for the server, or for the pause to be over
				began := time.Now()
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took > readGrace {
					t.Errorf("took %v", took)
				}
				if s.closed != 1 || s.closedWith != nil {
					t.Errorf("cursor closed %d times, with a context that has the error %v", s.closed, s.closedWith)
				}
			})
		})
	}
}

func TestRunStopsAtAFatalError(t *testing.T) {
	lost := mongo.CommandError{Code: 286, Message: "gone"}
	for name, next := range map[string][]any{
		"when it is opened":      {fmt.Errorf("open change stream: %w", lost)},
		"at the first getMore":   {newScript(t, "start", step{err: lost})},
		"later":                  {newScript(t, "start", step{changes: []string{"1"}, token: "1"}, step{err: lost})},
		"when it is opened anew": {newScript(t, "start", step{err: errBroken}), lost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, o := scripted(t, next...)
				err := w.Run(t.Context(), From{}, func(context.Context, Chunk) error { return nil })
				var fatal *Error
				if !errors.As(err, &fatal) || fatal.Class != HistoryLost || !errors.As(err, new(mongo.CommandError)) {
					t.Errorf("got %v", err)
				}
				if len(o.from) != len(next) {
					t.Errorf("opened %d times", len(o.from))
				}
				for _, n := range next {
					if s, ok := n.(*script); ok && s.closed != 1 {
						t.Errorf("cursor closed %d times", s.closed)
					}
				}
			})
		})
	}
}

func TestPausesDoubleUpToTheirBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := scripted(t, slices.Repeat([]any{errBroken}, 12)...)
		runUntil(t, w, 1)
		bound := 100 * time.Millisecond
		for i := range len(o.at) - 1 {
			if pause := o.at[i+1].Sub(o.at[i]); pause < bound/2 || pause > bound {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, bound/2, bound)
			}
			bound = min(2*bound, 10*time.Second)
		}
		if bound != 10*time.Second {
			t.Errorf("bound %v", bound)
		}
	})
}

func TestPausesBeginAnewAfterALongSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := newScript(t, "start", step{token: "1", after: 10*time.Second + 1}, step{err: errBroken})
		short := newScript(t, "1", step{token: "2", after: 9 * time.Second}, step{err: errBroken})
		w, o := scripted(t, append(slices.Repeat([]any{errBroken}, 6), long, short)...)
		runUntil(t, w, 5)
		if pause := o.at[6].Sub(o.at[5]); pause < 1600*time.Millisecond {
			t.Errorf("pause %v before the success, want more", pause)
		}
		if pause := o.at[7].Sub(o.at[6]) - 10*time.Second; pause > 101*time.Millisecond {
			t.Errorf("pause %v after the success, want the first one's length", pause)
		}
		if pause := o.at[8].Sub(o.at[7]) - 9*time.Second; pause < 100*time.Millisecond || pause > 200*time.Millisecond {
			t.Errorf("pause %v after a short success, want the second one's length", pause)
		}
	})
}

func TestPausesBeginAnewAfterAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idle := newScript(t, "start", step{token: "1"}, step{err: errBroken})
		advanced := newScript(t, "1", step{changes: []string{"2"}, token: "2"}, step{err: errBroken})
		w, o := scripted(t, append(slices.Repeat([]any{errBroken}, 4), idle, advanced)...)
		runUntil(t, w, 5)
		if pause := o.at[5].Sub(o.at[4]); pause < 800*time.Millisecond {
			t.Errorf("pause %v after an idle stream broke, want the fifth one's length", pause)
		}
		if pause := o.at[6].Sub(o.at[5]); pause > 100*time.Millisecond {
			t.Errorf("pause %v after a stream broke that had given changes, want the first one's length", pause)
		}
	})
}
