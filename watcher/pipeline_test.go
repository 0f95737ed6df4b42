package watcher_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/watcher"
)

func TestDatabase(t *testing.T) {
	feed := func(db string) watcher.Feed { return watcher.Feed{Database: db, Collection: "c"} }
	for _, c := range []struct {
		feeds []watcher.Feed
		want  string
	}{
		{nil, ""},
		{[]watcher.Feed{feed("a")}, "a"},
		{[]watcher.Feed{feed("a"), feed("a")}, "a"},
		{[]watcher.Feed{feed("a"), feed("b")}, ""},
		{[]watcher.Feed{feed("a"), feed("b"), feed("b")}, ""},
		{[]watcher.Feed{feed("a"), feed("b"), feed("a")}, ""},
	} {
		if got := (watcher.Spec{Feeds: c.feeds}).Database(); got != c.want {
			t.Errorf("%v: %q, want %q", c.feeds, got, c.want)
		}
	}
}

// relaxed is a pipeline as text.
func relaxed(t *testing.T, s watcher.Spec) string {
	t.Helper()
	text, err := bson.MarshalExtJSONIndent(bson.D{{Key: "p", Value: s.Pipeline()}}, false, false, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPipeline(t *testing.T) {
	in := func(names ...string) bson.D { return bson.D{{Key: "$in", Value: names}} }
	// One database needs no test of its name.
	of := func(db string, tests ...bson.E) bson.D {
		if db == "" {
			return tests
		}
		return append(bson.D{{Key: "ns.db", Value: db}}, tests...)
	}
	among := func(collections ...string) bson.E {
		names := bson.D{{Key: "$literal", Value: collections}}
		return bson.E{Key: "$expr", Value: bson.D{{Key: "$in", Value: bson.A{"$ns.coll", names}}}}
	}
	lifecycle := bson.D{{Key: "operationType", Value: in("drop", "rename", "dropDatabase", "invalidate")}}
	project := bson.D{{Key: "operationType", Value: 1}}
	for _, c := range []struct {
		name string
		spec watcher.Spec
		want [][]any // clauses of $match
	}{
		{
			"collections of one database are one clause",
			watcher.Spec{Feeds: []watcher.Feed{
				{Database: "a", Collection: "x"}, {Database: "a", Collection: "y"},
			}},
			[][]any{
				{of("", among("x", "y")), lifecycle},
			},
		},
		{
			"collections of one filter are one clause",
			watcher.Spec{Feeds: []watcher.Feed{
				{Database: "a", Collection: "x", Filter: bson.D{{Key: "n", Value: 1}}},
				{Database: "a", Collection: "y", Filter: bson.D{{Key: "n", Value: 2}}},
				{Database: "a", Collection: "z", Filter: bson.D{{Key: "n", Value: 1}}},
			}},
			[][]any{{
				append(of("", among("x", "z")), bson.E{Key: "n", Value: 1}),
				bson.D{{Key: "ns.coll", Value: "y"}, {Key: "n", Value: 2}},
				lifecycle,
			}},
		},
		{
			"other databases and filters are clauses of their own",
			watcher.Spec{Project: project, Feeds: []watcher.Feed{
				{Database: "a", Collection: "x"},
				{Database: "b", Collection: "x"},
				{Database: "a", Collection: "y"},
				{Database: "b", Collection: "z", Filter: bson.D{{Key: "fullDocument.n", Value: 1}}},
				{Database: "a", Collection: "z"},
			}},
			[][]any{
				{of("b", bson.E{Key: "ns.coll", Value: "z"}, bson.E{Key: "fullDocument.n", Value: 1})},
				{of("a", among("x", "y", "z")), of("b", among("x"))},
				{lifecycle},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "$or", Value: bson.A(slices.Concat(c.want...))}}}}}
			if c.spec.Project != nil {
				want = append(want, bson.D{{Key: "$project", Value: c.spec.Project}})
			}
			text, err := bson.MarshalExtJSONIndent(bson.D{{Key: "p", Value: want}}, false, false, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(text), relaxed(t, c.spec)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPipelineLeavesTheSpecAlone calls it twice: a filter is often shared.
func TestPipelineLeavesTheSpecAlone(t *testing.T) {
	filter := append(make(bson.D, 0, 10), bson.E{Key: "fullDocument.n", Value: 1})
	s := watcher.Spec{Feeds: []watcher.Feed{
		{Database: "a", Collection: "x", Filter: filter}, {Database: "a", Collection: "y", Filter: filter},
	}}
	if first, second := relaxed(t, s), relaxed(t, s); first != second || len(filter) != 1 {
		t.Errorf("%s\n%s", first, second)
	}
}

func TestFingerprint(t *testing.T) {
	base := func() watcher.Spec {
		return watcher.Spec{
			Project: bson.D{{Key: "operationType", Value: 1}},
			Feeds:   []watcher.Feed{{Database: "a", Collection: "x"}, {Database: "a", Collection: "y"}},
		}
	}
	fingerprint := func(change func(*watcher.Spec)) string {
		s := base()
		change(&s)
		f, err := s.Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	same := fingerprint(func(*watcher.Spec) {})
	if len(same) != 16 || fingerprint(func(*watcher.Spec) {}) != same {
		t.Errorf("fingerprint %q", same)
	}
	seen := map[string]string{same: "the base"}
	for name, change := range map[string]func(*watcher.Spec){
		"another collection": func(s *watcher.Spec) { s.Feeds[1].Collection = "z" },
		"a collection more": func(s *watcher.Spec) {
			s.Feeds = append(s.Feeds, watcher.Feed{Database: "a", Collection: "z"})
		},
		"another database":  func(s *watcher.Spec) { s.Feeds[0].Database, s.Feeds[1].Database = "b", "b" },
		"several databases": func(s *watcher.Spec) { s.Feeds[0].Database = "b" },
		"a filter":          func(s *watcher.Spec) { s.Feeds[0].Filter = bson.D{{Key: "fullDocument.n", Value: 1}} },
		"another filter":    func(s *watcher.Spec) { s.Feeds[0].Filter = bson.D{{Key: "fullDocument.n", Value: int64(1)}} },
		"a regular one": func(s *watcher.Spec) {
			s.Feeds[0].Filter = bson.D{{Key: "fullDocument.n", Value: bson.Regex{Pattern: "1"}}}
		},
		"another projection":  func(s *watcher.Spec) { s.Project = bson.D{{Key: "operationType", Value: 0}} },
		"no projection":       func(s *watcher.Spec) { s.Project = nil },
		"documents as before": func(s *watcher.Spec) { s.PreImages = true },
	} {
		got := fingerprint(change)
		if as, ok := seen[got]; ok {
			t.Errorf("%s has the fingerprint of %s", name, as)
		}
		seen[got] = name
	}
}

func TestNewRefusesWhatHasNoFingerprint(t *testing.T) {
	spec := watcher.Spec{Project: bson.D{{Key: "x", Value: make(chan int)}}}
	if w, err := watcher.New(nil, watcher.Options{Spec: spec}, nil); err == nil {
		t.Errorf("got %v", w.Fingerprint())
	}
}
