package watcher_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// keys are document keys of every kind that a collection may have; 300 object ids
// are enough for hashes of both signs in every slice.
func keys() []any {
	all := []any{
		"con-1", "", "Straße/1",
		bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")},
		bson.Binary{Data: []byte{}},
		int32(7), int64(-8), int64(math.MinInt64), 2.9, -2.9, math.Inf(1), math.Inf(-1), 1e300, math.NaN(),
		bson.NewDateTimeFromTime(time.UnixMilli(1234567890123)),
	}
	for range 300 {
		all = append(all, bson.NewObjectID())
	}
	return all
}

// testSlices proves that the slices of a group together have every change once, each
// document's in order, and that Holds decides as the server does.
func testSlices(t *testing.T, d *deployment) {
	for _, of := range []int{2, 3, 7} {
		t.Run(fmt.Sprintf("%d slices", of), func(t *testing.T) {
			c := d.database(t, fmt.Sprintf("sliced%d", of)).Collection("Consent_4_0_0")
			spec := allOf(c.Database(), c.Name())
			watchers := make([]*watcher.Watcher, of)
			starts := make([]watcher.From, of)
			for i := range of {
				spec.Slice = watcher.Slice{Index: i, Of: of}
				watchers[i] = d.watcher(t, spec)
				starts[i] = begin(t, watchers[i])
			}
			all := keys()
			for _, key := range all {
				write(t, c, key)
			}
			spec.Slice = watcher.Slice{}
			whole := read(t, d.watcher(t, spec), starts[0], 3*len(all))
			var together []string
			for i, w := range watchers {
				var want []bson.Raw
				for _, raw := range whole {
					holds, ok := watcher.Slice{Index: i, Of: of}.Holds(raw)
					if !ok {
						t.Fatalf("the hash of %s is not known", raw.Lookup("documentKey"))
					}
					if holds {
						want = append(want, raw)
					}
				}
				if len(want) < 10 {
					t.Fatalf("slice %d has %d changes, too few to prove anything", i, len(want))
				}
				got := read(t, w, starts[i], len(want))
				if !slices.Equal(namesOf(got), namesOf(want)) {
					t.Errorf("slice %d of %d has other changes than Holds says", i, of)
				}
				together = append(together, namesOf(got)...)
			}
			if want := namesOf(whole); !slices.Equal(sorted(together), sorted(want)) {
				t.Errorf("the slices have %d changes, not the %d that there are, each once", len(together), len(want))
			}
		})
	}
}

// write makes an insert, a replace and a delete of one document.
func write(t *testing.T, c *mongo.Collection, key any) {
	t.Helper()
	insert(t, c, bson.D{{Key: "_id", Value: key}, {Key: "version", Value: 1}})
	only := bson.D{{Key: "_id", Value: key}}
	if _, err := c.ReplaceOne(t.Context(), only, bson.D{{Key: "version", Value: 2}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteOne(t.Context(), only); err != nil {
		t.Fatal(err)
	}
}

// namesOf tells changes apart: the key and what was done.
func namesOf(changes []bson.Raw) []string {
	names := make([]string, len(changes))
	for i, raw := range changes {
		names[i] = raw.Lookup("documentKey").String() + " " + raw.Lookup("operationType").StringValue()
	}
	return names
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return names
}

// A server that cannot hash refuses the pipeline at the start, and the error says
// what to take out. A failpoint stands in for such a server.
func testSlicesUnsupported(t *testing.T, d *deployment) {
	spec := allOf(d.database(t, "fhir"), "Consent_4_0_0")
	spec.Slice = watcher.Slice{Index: 0, Of: 2}
	for _, code := range []int{168, 31325} {
		d.fail(t, "aggregate", 1, bson.E{Key: "errorCode", Value: code})
		_, err := d.watcher(t, spec).Begin(t.Context(), watcher.From{})
		if err == nil || !strings.Contains(err.Error(), "take slices out of streams") {
			t.Errorf("code %d: got %v", code, err)
		}
	}
}

// The hash of a type that is not known is nobody's, and says so.
func TestSliceOfUnknownType(t *testing.T) {
	raw, err := bson.Marshal(bson.D{{Key: "documentKey", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "a", Value: 1}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if holds, ok := (watcher.Slice{Of: 2}).Holds(raw); holds || ok {
		t.Error("a document as a key has a slice")
	}
	if holds, ok := (watcher.Slice{}).Holds(raw); !holds || !ok {
		t.Error("without slices a change is left out")
	}
}
