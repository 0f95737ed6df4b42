package layout

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// storedForm is what an earlier program has stored.
func storedForm(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../resumetoken/testdata/stored/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(data, []byte("\n"))
}

func sameStored(t *testing.T, name string, p resumetoken.Position) {
	t.Helper()
	if got, err := resumetoken.Encode(p, "me"); err != nil || !bytes.Equal(got, storedForm(t, name)) {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, storedForm(t, name))
	}
}

func storedRecord(t *testing.T) storedLayout {
	t.Helper()
	cov := func(stream string, slice, of int, collections ...string) resumetoken.Coverage {
		return resumetoken.Coverage{Stream: stream, Cluster: "main", Collections: collections, Slice: slice, Of: of}
	}
	at := func(n uint32) bson.Timestamp { return bson.Timestamp{T: n, I: 1} }
	r := storedLayout{Generation: 3, Layout: Layout{cov("a-1-of-2", 0, 2, "fhir.a", "fhir.b"), cov("a-2-of-2", 1, 2, "fhir.a", "fhir.b")}}
	r.ID = r.Layout.ID()
	r.Before = []lastPosition{
		{
			Coverage: cov("main", 0, 0, "fhir.a"), Token: position(t, "", 1000).Token, ClusterTime: at(1000), WallTime: time.UnixMilli(1000005).UTC(),
			Fingerprint: "f", History: "set 1", Paused: true,
			Published: []resumetoken.Published{
				{Coverage: cov("main", 0, 0, "fhir.a"), From: position(t, "", 1001).Token, Token: position(t, "", 1002).Token, ClusterTime: at(1002)},
				{Coverage: cov("main", 0, 0, "fhir.a"), From: position(t, "", 1003).Token, Token: position(t, "", 1004).Token, ClusterTime: at(1004)},
				{Coverage: cov("hot", 1, 2, "fhir.a"), Token: position(t, "", 1005).Token, ClusterTime: at(1005)},
			},
		},
		{
			Coverage: cov("other", 0, 0, "fhir.b"), Token: position(t, "", 900).Token, ClusterTime: at(900), Fingerprint: "g",
			Live: &livePoint{Token: position(t, "", 1100).Token, ClusterTime: at(1100)},
		},
	}
	return r
}

// The layout has the bytes that earlier programs have stored, and is read from them.
func TestLayoutIsStoredAsBefore(t *testing.T) {
	p, err := storedRecord(t).position()
	if err != nil {
		t.Fatal(err)
	}
	sameStored(t, "layout", p)
	if p, err = resumetoken.Decode(storedForm(t, "layout")); err != nil {
		t.Fatal(err)
	}
	got, err := read(p)
	if diff := cmp.Diff(storedRecord(t), got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// keepsReset keeps what is stored.
type keepsReset struct {
	resumetoken.Keeper
	stored resumetoken.Position
}

func (k *keepsReset) Reset(_ context.Context, p resumetoken.Position) error {
	k.stored = p
	return nil
}

// A stream that never began is sealed as earlier programs did it, and stays without a position.
func TestNeverBegunIsSealedAsBefore(t *testing.T) {
	store := &keepsReset{}
	ending := &endingStream{coverage: resumetoken.Coverage{Stream: "main"}, store: store}
	if p, err := ending.seal(t.Context(), storedLayout{ID: "l"}, 4); err != nil || !p.IsZero() {
		t.Fatal(p, err)
	}
	sameStored(t, "never-begun", store.stored)
	sealed, err := resumetoken.Decode(storedForm(t, "never-begun"))
	if err != nil || sealed.IsZero() || sealed.HandedTo != 4 {
		t.Fatal(sealed, err)
	}
	record := storedLayout{ID: "l", Before: storedRecord(t).Before}
	c := record.Before[0].Coverage
	if p := record.effective(c, sealed, 4); !p.IsZero() {
		t.Errorf("in its own layout it is at %+v", p)
	}
	if p := record.effective(c, sealed, 5); p.ClusterTime.T != 1000 {
		t.Errorf("in the next layout it is at %+v", p)
	}
}

// TestRunsAreHandedOver bounds the size of a layout and of a position with runs: a hand-over
// stores their coverage once.
func TestRunsAreHandedOver(t *testing.T) {
	event := token(t, "826B0BCD94000000012B022C0100296E5A1004AA114B2585DA4A86A282C85FD7BC951846645F696400646B0BCD944053F4D37D5C90650004")
	later := token(t, "826B0BCD95000000012B022C0100296E5A1004AA114B2585DA4A86A282C85FD7BC951846645F696400646B0BCD944053F4D37D5C90650004")
	var published []resumetoken.Published
	for range 64 {
		published = append(published, resumetoken.Published{From: event, Token: later})
	}
	main := resumetoken.Coverage{Stream: "main", Cluster: "c"}
	for n := range 150 {
		main.Collections = append(main.Collections, fmt.Sprintf("fhir.ResourceOfType%03d_4_0_0", n))
	}
	record := storedLayout{ID: "x", Generation: 1, Before: []lastPosition{{Coverage: main, Token: event, Published: owned(published, main)}}}
	stored, err := record.position()
	if err != nil {
		t.Fatal(err)
	}
	data, err := resumetoken.Encode(stored, "")
	if err != nil || !strings.HasPrefix(string(data), `{"v":3,`) || len(data) > 40_000 {
		t.Errorf("a layout with runs is stored in %d bytes as %.10s (%v)", len(data), data, err)
	}
	if stored, err = resumetoken.Decode(data); err != nil {
		t.Fatal(err)
	}
	got, err := read(stored)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(record, got); diff != "" {
		t.Error(diff)
	}
	next := got.start(resumetoken.Coverage{Stream: "other", Cluster: "c", Collections: main.Collections, Slice: 1, Of: 2})
	runs := slices.DeleteFunc(slices.Clone(next.Published), func(p resumetoken.Published) bool { return len(p.From) == 0 || len(p.Collections) != 150 })
	if len(runs) != 64 {
		t.Errorf("%d runs are handed over, with what they cover", len(runs))
	}
	if data, err = resumetoken.Encode(next, ""); err != nil || len(data) > 30_000 {
		t.Errorf("the position of the next stream takes %d bytes (%v)", len(data), err)
	}
	if again, err := resumetoken.Decode(data); err != nil || !cmp.Equal(again.Published, next.Published) {
		t.Errorf("it is read in another way (%v)", err)
	}
}

// Counts go to the stream of the same name; those of streams that are no more to the first one.
// The sum stays, and layouts that earlier programs stored have none.
func TestCountsAreHandedOver(t *testing.T) {
	r := storedRecord(t)
	for _, c := range r.Layout {
		if got := r.start(c).Counts; got != nil {
			t.Errorf("%s has counts of nowhere: %+v", c.Stream, got)
		}
	}
	counts := func(n int64) *resumetoken.Counts {
		return &resumetoken.Counts{Since: time.Unix(1000-n, 0).UTC(), Kinds: []resumetoken.KindCount{{Kind: "change", Created: n}}}
	}
	r.Before[0].Counts, r.Before[1].Counts = counts(5), counts(7)
	r.Layout[1].Stream = "other"
	p, err := r.position()
	if err != nil {
		t.Fatal(err)
	}
	if r, err = read(p); err != nil {
		t.Fatal(err)
	}
	for i, want := range []*resumetoken.Counts{counts(5), counts(7)} {
		if diff := cmp.Diff(want, r.start(r.Layout[i]).Counts); diff != "" {
			t.Errorf("%s, -want +got:\n%s", r.Layout[i].Stream, diff)
		}
	}
	r.Layout[1].Stream = "a-2-of-2"
	if diff := cmp.Diff(counts(5).With(counts(7)), r.start(r.Layout[0]).Counts); diff != "" || r.start(r.Layout[1]).Counts != nil {
		t.Errorf("where both streams are gone, -want +got:\n%s", diff)
	}
}

// What a stream of windows had published goes on with it, and an older program refuses the layout.
func TestWindowIsHandedOver(t *testing.T) {
	own := resumetoken.Coverage{Stream: "data-changes", Cluster: "data-changes", Collections: []string{"fhir.a"}}
	window := &resumetoken.Window{Start: 990, End: 1000, Unfinished: true, After: "patient_data_change/a"}
	record := storedLayout{ID: "x", Generation: 1, Before: []lastPosition{
		{Coverage: own, Token: position(t, "", 990).Token, ClusterTime: bson.Timestamp{T: 990}, Window: window},
		{Coverage: resumetoken.Coverage{Stream: "main", Cluster: "main", Collections: []string{"fhir.a"}}, Token: position(t, "", 900).Token, ClusterTime: bson.Timestamp{T: 900}},
	}}
	p, err := record.position()
	if err != nil {
		t.Fatal(err)
	}
	data, err := resumetoken.Encode(p, "me")
	if err != nil || !bytes.Contains(data, []byte(`"v":4`)) {
		t.Errorf("%v, %s", err, data)
	}
	stored, err := read(p)
	if err != nil {
		t.Fatal(err)
	}
	own.Collections = append(own.Collections, "fhir.b")
	got := stored.start(own)
	if diff := cmp.Diff(window, got.Window); diff != "" || got.ClusterTime.T != 990 || len(got.Published) > 0 {
		t.Errorf("it goes on at %+v (-want +got):\n%s", got, diff)
	}
}
