package resumetoken

import (
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestHandoverOfRepair hands over streams that are being repaired: what they were to
// read live after it is still read live, and nothing else of the other streams is.
func TestHandoverOfRepair(t *testing.T) {
	at := func(n uint32) (bson.Raw, bson.Timestamp) {
		return token(t, fmt.Sprintf("82%08X%08X", n, 1)), bson.Timestamp{T: n}
	}
	before := func(stream string, collections []string, position, live uint32) lastPosition {
		b := lastPosition{Coverage: Coverage{Stream: stream, Cluster: "main", Collections: collections}}
		b.Token, b.ClusterTime = at(position)
		if live > 0 {
			token, when := at(live)
			b.Live = &livePoint{Token: token, ClusterTime: when}
		}
		return b
	}
	a, b, c := []string{"fhir.a"}, []string{"fhir.b"}, []string{"fhir.c"}
	all := Coverage{Stream: "all", Cluster: "main", Collections: []string{"fhir.a", "fhir.b", "fhir.c"}}
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
			got := layoutRecord{Before: test.before}.start(all)
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
