package watcher

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestReadSpan(t *testing.T) {
	at := func(n uint32) bson.Timestamp { return bson.Timestamp{T: 0x6B03917D, I: n} }
	for _, c := range []struct {
		name  string
		steps []step
		after string
		until bson.Timestamp
		want  []string
	}{
		{"all of the last time", []step{{changes: []string{first1, second1, first2}, token: first2}}, "", at(1), []string{first1, second1}},
		{"the last time goes on in the next batch", []step{{changes: []string{first1}, token: first1}, {changes: []string{second1, first2}, token: first2}}, "", at(1), []string{first1, second1}},
		{"an idle token is past the last time", []step{{changes: []string{first1, second1}, token: second1}, {token: idle2}}, "", at(1), []string{first1, second1}},
		{"a quiet cluster stays at the last time", []step{{changes: []string{first1, second1}, token: second1}, {token: idle1}, {token: idle1}}, "", at(1), []string{first1, second1}},
		{"nothing in it", []step{{changes: []string{first3}, token: first3}}, "", at(9), nil},
		{"after a change", []step{{changes: []string{first1, second1, first2}, token: first2}, {token: idle3}}, first1, at(2), []string{second1, first2}},
		{"after a change of another pipeline", []step{{changes: []string{first1, first2}, token: first2}, {token: idle3}}, second1, at(2), []string{first2}},
		{"after a whole batch", []step{{changes: []string{first1, second1}, token: second1}, {changes: []string{first2}, token: first2}, {token: idle3}}, second1, at(2), []string{first2}},
		{"after an idle stream's token", []step{{changes: []string{first1, first2}, token: first2}, {token: idle3}}, idle2, at(2), []string{first2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := scripted(t, newScript(t, idle1, c.steps...))
			span := Span{From: at(1), UntilTime: c.until}
			if c.after != "" {
				span.After = token(c.after)
			}
			var got []string
			err := w.ReadSpan(t.Context(), span, func(_ context.Context, chunk Chunk) error {
				for _, raw := range chunk.Changes {
					got = append(got, data(raw.Lookup("_id").Document()))
				}
				if n := len(got); len(chunk.Changes) > 0 && data(chunk.Token) < got[n-1] {
					t.Errorf("the token %s is before the change %s", data(chunk.Token), got[n-1])
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadSpanGivesTheReceiversError(t *testing.T) {
	w, _ := scripted(t, newScript(t, idle1, step{changes: []string{first1}, token: first1}))
	want := errors.New("full")
	err := w.ReadSpan(t.Context(), Span{UntilTime: bson.Timestamp{T: 0x6B03917D, I: 1}}, func(_ context.Context, c Chunk) error {
		if len(c.Changes) == 0 {
			return nil
		}
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// A span of a position is not read of another set's oplog.
func TestReadSpanOfAnotherHistory(t *testing.T) {
	for history, lost := range map[string]bool{historySet + "a": false, historySet + "b": true, "": false} {
		for name, read := range map[string]func(*Watcher) error{
			"ReadSpan": func(w *Watcher) error {
				return w.ReadSpan(t.Context(), Span{UntilTime: bson.Timestamp{T: 0x6B03917C, I: 1}, History: history}, func(context.Context, Chunk) error { return nil })
			},
			"Scan": func(w *Watcher) error {
				return w.Scan(t.Context(), From{ClusterTime: bson.Timestamp{T: 1}, History: history}, token(first1), func(bson.Raw) {})
			},
		} {
			w, o := scripted(t, newScript(t, idle1, step{changes: []string{first1}, token: first1}))
			o.evidence = evidence{history: historySet + "a"}
			err := read(w)
			var known *Error
			if got := errors.As(err, &known) && known.Class == HistoryLost; got != lost || !got && err != nil {
				t.Errorf("%s of the history %q: %v", name, history, err)
			}
		}
	}
}
