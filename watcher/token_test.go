package watcher

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/tokens"
)

// Tokens as MongoDB 6.0 makes them. The idle ones are of a time, the others of a
// change of that time; second is of the same transaction as first.
const (
	idle1   = "826B03917D000000012B0229296E04"
	first1  = "826B03917D000000012B022C0100296E5A1004A1"
	second1 = "826B03917D000000012B022C0101296E5A1004A1"
	idle2   = "826B03917D000000022B0229296E04"
	first2  = "826B03917D000000022B022C0100296E5A1004A1"
	idle3   = "826B03917E000000012B0229296E04"
	first3  = "826B03917E000000012B022C0100296E5A1004A1"
)

func TestNearAndPassed(t *testing.T) {
	all := []string{idle1, first1, second1, idle2, first2, idle3, first3}
	timeOf := []int{1, 1, 1, 2, 2, 3, 3}
	for i, a := range all {
		for j, b := range all {
			for _, e := range []end{end(b), end(tokens.TimeOfText(b))} {
				if got := e.near(token(a)); got != (timeOf[i] >= timeOf[j]) {
					t.Errorf("%s is near %s: %v", a, e, got)
				}
				if got, want := e.passed(token(a)), (e.isTime() && timeOf[i] > timeOf[j]) || (!e.isTime() && i > j); got != want {
					t.Errorf("%s has passed %s: %v", a, e, got)
				}
			}
		}
	}
}

func TestTokenWithoutTimeIsNearNothing(t *testing.T) {
	if end("83").near(token("84")) {
		t.Error("a token too short to hold a time has one")
	}
}

func TestScanReadsUpToItsEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		at    string // of the opened stream
		steps []step
		until string
		want  []string
	}{
		{"up to a change, that included", idle1, []step{{changes: []string{first1, second1, first2}, token: first2}}, second1, []string{first1, second1}},
		{"the change is the last of its batch", idle1, []step{{changes: []string{first1}, token: first1}}, first1, []string{first1}},
		{"the batch's token is past the end", idle1, []step{{changes: []string{first1}, token: idle2}}, second1, []string{first1}},
		{"the end is in a later batch", idle1, []step{
			{changes: []string{first1}, token: first1}, {changes: []string{second1, first2}, token: first2},
		}, second1, []string{first1, second1}},
		{"the end is another pipeline's change", idle1, []step{{changes: []string{first1}, token: first1}, {token: idle3}}, first2, []string{first1}},
		{"the same on a quiet cluster: the idle token has its time", idle1, []step{
			{changes: []string{first1}, token: first1}, {token: idle2}, {token: idle2},
		}, first2, []string{first1}},
		{"an idle stream's token", idle1, []step{{changes: []string{first1}, token: first1}, {token: idle2}}, idle2, []string{first1}},
		{"an idle stream's token, changes after it", idle1, []step{{changes: []string{first1, first2}, token: first2}}, idle2, []string{first1}},
		{"it begins where it ends", idle1, []step{{changes: []string{first1, first2}, token: first2}}, first1, []string{first1}},
		{"it begins where it ends, after idle batches before", idle1, []step{
			{changes: []string{first1, second1}, token: second1}, {changes: []string{first2}, token: first2},
		}, first2, []string{first1, second1, first2}},
		{"it begins after its end", idle3, nil, first2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := scripted(t, newScript(t, c.at, c.steps...))
			var got []string
			if err := w.Scan(t.Context(), From{ClusterTime: bson.Timestamp{T: 1}}, token(c.until), func(raw bson.Raw) {
				got = append(got, data(raw.Lookup("_id").Document()))
			}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScanGoesOnAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := scripted(t,
			newScript(t, idle1, step{changes: []string{first1}, token: first1}, step{err: errBroken}),
			newScript(t, first1, step{changes: []string{second1, first2}, token: first2}))
		var got []string
		if err := w.Scan(t.Context(), From{ClusterTime: bson.Timestamp{T: 1}}, token(second1), func(raw bson.Raw) {
			got = append(got, data(raw.Lookup("_id").Document()))
		}); err != nil {
			t.Fatal(err)
		}
		if want := []string{first1, second1}; !slices.Equal(got, want) || data(o.from[1].Token) != first1 {
			t.Errorf("got %q, opened again at %v", got, o.from[1])
		}
	})
}

func TestScanIsNotDoneWhenTheContextEnds(t *testing.T) {
	w, _ := scripted(t, newScript(t, idle1))
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	w.openCursor = func(context.Context, From) (cursor, error) { cancel(cause); return nil, ctx.Err() }
	if err := w.Scan(ctx, From{ClusterTime: bson.Timestamp{T: 1}}, token(first1), func(bson.Raw) {}); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}
