package watcher

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// at is a token of a time, as an idle stream has them.
func at(t, i uint32) bson.Raw { return token(fmt.Sprintf("82%08X%08X", t, i)) }

// The oplog's beginning and its history decide, and what the server does not tell decides
// nothing.
func TestHistoryIsDecidedByEvidence(t *testing.T) {
	set := func(id string) string { return historySet + id }
	position := From{Token: at(100, 5), History: set("a")}
	whole := func(t uint32, history string) evidence { return evidence{bson.Timestamp{T: t, I: 1}, true, history} }
	proof := func(f From) From { f.Proof = true; return f }
	orFirst := func(f From) From { f.OrFirst = true; return f }
	for name, c := range map[string]struct {
		now  evidence
		from From
		lost bool
	}{
		"the same set":                           {whole(90, set("a")), position, false},
		"a set initiated after the position":     {whole(101, set("a")), position, true},
		"right after it":                         {evidence{bson.Timestamp{T: 100, I: 6}, true, ""}, position, true},
		"at its time":                            {evidence{bson.Timestamp{T: 100, I: 5}, true, ""}, position, false},
		"after a time":                           {whole(101, ""), From{ClusterTime: bson.Timestamp{T: 100}}, true},
		"a start that may come later":            {whole(101, ""), orFirst(From{ClusterTime: bson.Timestamp{T: 100}}), false},
		"a start now":                            {whole(101, ""), From{}, false},
		"another member's oplog begins later":    {evidence{bson.Timestamp{T: 101}, false, set("a")}, position, false},
		"another set":                            {whole(90, set("b")), position, true},
		"another set, whose oplog has forgotten": {evidence{bson.Timestamp{T: 90}, false, set("b")}, position, true},
		"a set that is not told":                 {evidence{}, position, false},
		"a position of before histories":         {whole(90, set("b")), From{Token: at(100, 5)}, false},
		"the term goes on":                       {evidence{history: historyTerm + "8 at 120.1"}, From{Token: at(100, 5), History: historyTerm + "7 at 99.1"}, false},
		"the term goes back":                     {evidence{history: historyTerm + "2 at 120.1"}, From{Token: at(100, 5), History: historyTerm + "7 at 99.1"}, true},
		"a member that lags":                     {evidence{history: historyTerm + "6 at 98.7"}, From{Token: at(100, 5), History: historyTerm + "7 at 99.1"}, false},
		"a set, then a term":                     {evidence{history: historyTerm + "2 at 120.1"}, position, false},
		"an unknown form":                        {whole(90, set("b")), From{Token: at(100, 5), History: "of a newer version"}, false},
		"proof":                                  {whole(90, set("a")), proof(position), false},
		"proof, the oplog has forgotten":         {evidence{bson.Timestamp{T: 101}, false, set("a")}, proof(position), true},
		"proof, the set is not told":             {whole(90, ""), proof(position), true},
		"proof, the oplog is not told":           {evidence{history: set("a")}, proof(position), true},
		"proof of an old position":               {whole(90, set("a")), proof(From{Token: at(100, 5)}), true},
	} {
		t.Run(name, func(t *testing.T) {
			w, o := scripted(t, newScript(t, "x", step{token: "y"}))
			o.evidence = c.now
			chunks := 0
			done := errors.New("done")
			err := w.Run(t.Context(), c.from, func(context.Context, Chunk) error { chunks++; return done })
			var known *Error
			if lost := errors.As(err, &known) && known.Class == HistoryLost; lost != c.lost || lost == errors.Is(err, done) || lost == (chunks > 0) {
				t.Errorf("lost %v, want %v; error %v", lost, c.lost, err)
			}
			if w.OpenCursors() != 0 {
				t.Error("a cursor is left")
			}
		})
	}
}

// A set that is initiated anew while the stream runs is found at the next opening, also
// where the position had no history yet.
func TestHistoryIsAskedForAtEveryOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("connection reset")
		w, o := scripted(t, newScript(t, "x", step{token: data(at(200, 1))}, step{err: broken}), newScript(t, "x", step{token: "y"}))
		o.evidence = evidence{bson.Timestamp{T: 10}, false, historySet + "a"}
		w.opts.OnBreak = func(error) { o.evidence.history = historySet + "b" }
		err := w.Run(t.Context(), From{Token: at(100, 5)}, func(context.Context, Chunk) error { return nil })
		var known *Error
		if !errors.As(err, &known) || known.Class != HistoryLost || len(o.from) != 2 || o.from[1].at().T != 200 {
			t.Errorf("error %v, opened at %v", err, o.from)
		}
		if w.History() != historySet+"a" {
			t.Errorf("history %q", w.History())
		}
	})
}

// A start before the set was initiated begins with its first entry.
func TestStartBeforeTheSet(t *testing.T) {
	w, o := scripted(t)
	o.evidence = evidence{bson.Timestamp{T: 100, I: 1}, true, historySet + "a"}
	if _, err := w.Begin(t.Context(), From{ClusterTime: bson.Timestamp{T: 50}, OrFirst: true}); err != nil {
		t.Fatal(err)
	}
	if n := len(o.from); n != 2 || o.from[1].ClusterTime != o.evidence.oldest {
		t.Errorf("opened at %v", o.from)
	}
}

// A command that the server cannot parse is about the token only if it is one without.
func TestCannotParse(t *testing.T) {
	for _, code := range []int32{codeFailedToParse, codeOverflow} {
		refused := mongo.CommandError{Code: code, Message: "the server's words"}
		for name, c := range map[string]struct {
			from From
			next []any
			want Class
		}{
			"the token":              {From{Token: at(100, 5)}, []any{refused}, HistoryLost},
			"all of it":              {From{Token: at(100, 5)}, []any{refused, refused}, Unsupported},
			"a stream without token": {From{ClusterTime: bson.Timestamp{T: 5}}, []any{refused}, Unsupported},
			"a new stream":           {From{}, []any{refused}, Unsupported},
		} {
			t.Run(fmt.Sprint(code, " ", name), func(t *testing.T) {
				w, _ := scripted(t, c.next...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := w.Run(ctx, c.from, func(context.Context, Chunk) error { return nil })
				var known *Error
				if !errors.As(err, &known) || known.Class != c.want || w.OpenCursors() != 0 {
					t.Errorf("%v, want class %d", err, c.want)
				}
			})
		}
	}
}
