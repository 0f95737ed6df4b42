package resumetoken

import (
	"slices"
	"strings"
	"time"
)

// Counts are what a stream has committed since a time. They are stored with the position, and so
// outlive processes and go from owner to owner. They are for people, never for decisions, and are
// never changed in place.
type Counts struct {
	// Since is when the counting began.
	Since time.Time `json:"since" bson:"since"`
	// Kinds have the counts of each kind that has any, in the order of their names.
	Kinds []KindCount `json:"kinds,omitempty" bson:"kinds,omitempty"`
}

// KindCount counts the events of a kind by what happened to the document, and its dead letters.
type KindCount struct {
	Kind        string `json:"kind" bson:"kind"`
	Created     int64  `json:"created,omitempty" bson:"created,omitempty"`
	Updated     int64  `json:"updated,omitempty" bson:"updated,omitempty"`
	Deleted     int64  `json:"deleted,omitempty" bson:"deleted,omitempty"`
	DeadLetters int64  `json:"deadLetters,omitempty" bson:"deadLetters,omitempty"`
}

// With gives the sum of c and more, since the earlier time. Either may be nil.
func (c *Counts) With(more *Counts) *Counts {
	switch {
	case c == nil:
		return more
	case more == nil:
		return c
	}
	sum := &Counts{Since: c.Since, Kinds: slices.Clone(c.Kinds)}
	if more.Since.Before(sum.Since) {
		sum.Since = more.Since
	}
	for _, k := range more.Kinds {
		i, found := slices.BinarySearchFunc(sum.Kinds, k.Kind, func(a KindCount, name string) int { return strings.Compare(a.Kind, name) })
		if !found {
			sum.Kinds = slices.Insert(sum.Kinds, i, k)
			continue
		}
		s := &sum.Kinds[i]
		s.Created, s.Updated, s.Deleted, s.DeadLetters = s.Created+k.Created, s.Updated+k.Updated, s.Deleted+k.Deleted, s.DeadLetters+k.DeadLetters
	}
	return sum
}
