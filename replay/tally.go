package replay

import (
	"cmp"
	"slices"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// tally counts events by kind, resource type and topic.
type tally []*ReplayCount

func (t *tally) of(kind mapper.Kind, s mapper.Source, topic string) *ReplayCount {
	resource := ResourceOf(s)
	i := slices.IndexFunc(*t, func(c *ReplayCount) bool { return c.Kind == kind && c.Resource == resource && c.Topic == topic })
	if i >= 0 {
		return (*t)[i]
	}
	c := &ReplayCount{Kind: kind, Resource: resource, Topic: topic}
	*t = append(*t, c)
	return c
}

// tallyOf goes on with counts.
func tallyOf(counts []ReplayCount) tally {
	t := make(tally, len(counts))
	for i := range counts {
		t[i] = &counts[i]
	}
	return t
}

// sorted are the counts in a fixed order.
func (t *tally) sorted() []ReplayCount {
	counts := make([]ReplayCount, 0, len(*t))
	for _, c := range *t {
		counts = append(counts, *c)
	}
	slices.SortFunc(counts, func(a, b ReplayCount) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Topic, b.Topic))
	})
	return counts
}
