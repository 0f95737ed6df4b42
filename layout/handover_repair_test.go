package layout

import (
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// TestHandoverOfRepair hands over streams that are being repaired: what they were to
// read live after it is still read live, and nothing else of the other streams is.
func TestHandoverOfRepair(t *testing.T) {
	at := func(n uint32) (bson.Raw, bson.Timestamp) {
		return token(t, fmt.Sprintf("82%08X%08X", n, 1)), bson.Timestamp{T: n}
	}
	before := func(stream string, collections []string, position, live uint32) lastPosition {
		b := lastPosition{Coverage: resumetoken.Coverage{Stream: stream, Cluster: "main", Collections: collections}}
		b.Token, b.ClusterTime = at(position)
		if live > 0 {
			token, when := at(live)
			b.Live = &livePoint{Token: token, ClusterTime: when}
		}
		return b
	}
	a, b, c := []string{"fhir.a"}, []string{"fhir.b"}, []string{"fhir.c"}
	all := resumetoken.Coverage{Stream: "all", Cluster: "main", Collections: []string{"fhir.a", "fhir.b", "fhir.c"}}
	for name, test := range map[string]struct {
		before []lastPosition
		// position and live are where the new stream stands, 0 for no repair; published
		// is how far the others had come, by collection.
		position, live uint32
		published      map[string]uint32
	}{
		"no repair":                       {[]lastPosition{before("a", a, 10, 0), before("b", b, 20, 0)}, 10, 0, map[string]uint32{"fhir.b": 20}},
		"a repair, the others are ahead":  {[]lastPosition{before("a", a, 10, 30), before("b", b, 40, 0)}, 10, 30, map[string]uint32{"fhir.b": 40}},
		"a repair, another one is behind": {[]lastPosition{before("a", a, 10, 30), before("b", b, 20, 0)}, 10, 20, map[string]uint32{"fhir.a": 30}},
		"repairs":                         {[]lastPosition{before("a", a, 10, 30), before("b", b, 12, 35), before("c", c, 33, 0)}, 10, 30, map[string]uint32{"fhir.b": 35, "fhir.c": 33}},
	} {
		t.Run(name, func(t *testing.T) {
			got := storedLayout{Before: test.before}.start(all)
			if got.ClusterTime.T != test.position {
				t.Errorf("it stands at %d, want %d", got.ClusterTime.T, test.position)
			}
			live := uint32(0)
			if got.Repair != nil {
				live = got.Repair.ClusterTime.T
			}
			if live != test.live {
				t.Errorf("it goes on live at %d, want %d", live, test.live)
			}
			if len(got.Published) != len(test.published) {
				t.Errorf("published: %+v, want %v", got.Published, test.published)
			}
			for _, p := range got.Published {
				if want := test.published[p.Collections[0]]; p.ClusterTime.T != want {
					t.Errorf("%s is published up to %d, want %d", p.Collections[0], p.ClusterTime.T, want)
				}
			}
		})
	}
}

// TestHandoverKeepsTheLastChange keeps when the streams had their last change, for a repair
// that begins with the earliest of them. What a program of before has stored has none.
func TestHandoverKeepsTheLastChange(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	before := func(stream string, changed time.Time) lastPosition {
		return lastPosition{
			Coverage: resumetoken.Coverage{Stream: stream, Cluster: "main", Collections: []string{"fhir." + stream}},
			Token:    token(t, "82000000640000000129"), ClusterTime: bson.Timestamp{T: 100, I: 1}, WallTime: changed,
		}
	}
	stored, err := storedLayout{ID: "l", Generation: 1, Before: []lastPosition{before("a", at(60)), before("b", at(40)), before("c", time.Time{}), before("d", at(20))}}.position()
	if err != nil {
		t.Fatal(err)
	}
	record, err := read(stored)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		collections []string
		want        time.Time
	}{
		"of one":             {[]string{"fhir.a"}, at(60)},
		"the lowest":         {[]string{"fhir.a", "fhir.b", "fhir.c"}, at(40)},
		"not known":          {[]string{"fhir.c"}, time.Time{}},
		"covered by nothing": {[]string{"fhir.e"}, at(20)},
	} {
		if got := record.start(resumetoken.Coverage{Stream: "new", Cluster: "main", Collections: test.collections}).WallTime; !got.Equal(test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
