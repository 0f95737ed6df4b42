package resumetoken

import (
	"reflect"
	"testing"
	"time"
)

func TestCounts(t *testing.T) {
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	a := &Counts{Since: late, Kinds: []KindCount{{Kind: "change", Created: 1, DeadLetters: 1}, {Kind: "export", Updated: 2}}}
	b := &Counts{Since: early, Kinds: []KindCount{{Kind: "accessed_everything", Created: 5}, {Kind: "change", Created: 1, Deleted: 3}}}
	want := &Counts{Since: early, Kinds: []KindCount{
		{Kind: "accessed_everything", Created: 5}, {Kind: "change", Created: 2, Deleted: 3, DeadLetters: 1}, {Kind: "export", Updated: 2},
	}}
	for _, got := range []*Counts{a.With(b), b.With(a), (*Counts)(nil).With(want), want.With(nil)} {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the sum is %+v, want %+v", got, want)
		}
	}
	if a.Kinds[0].Created != 1 || len(b.Kinds) != 2 {
		t.Error("a sum has changed its parts")
	}
}
