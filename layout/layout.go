// Package layout divides what an installation watches among its streams, and hands streams
// over when the division changes. The layout is stored beside the positions.
package layout

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
)

// Layout is the division of what an installation watches: the coverage of each stream.
type Layout []resumetoken.Coverage

// ID names a layout. The same streams have the same ID in any order.
func (l Layout) ID() string {
	sorted := slices.Clone(l)
	slices.SortFunc(sorted, func(a, b resumetoken.Coverage) int { return strings.Compare(a.Stream, b.Stream) })
	text, err := json.Marshal(sorted)
	if err != nil {
		return "" // Strings and numbers can always be written.
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// names are the names of the streams.
func (l Layout) names() []string {
	names := make([]string, len(l))
	for i, c := range l {
		names[i] = c.Stream
	}
	return names
}

// stream is the coverage of a stream.
func (l Layout) stream(name string) (resumetoken.Coverage, bool) {
	i := slices.IndexFunc(l, func(c resumetoken.Coverage) bool { return c.Stream == name })
	if i < 0 {
		return resumetoken.Coverage{}, false
	}
	return l[i], true
}

// share tells whether one change may belong to both coverages.
func share(a, b resumetoken.Coverage) bool {
	if a.Cluster != b.Cluster {
		return false
	}
	if a.Of > 1 && a.Of == b.Of && a.Slice != b.Slice {
		return false
	}
	return slices.ContainsFunc(a.Collections, b.Has)
}

// within is the common part of two coverages that share a change: the slice of other, with
// the collections that both have.
func within(c, other resumetoken.Coverage) resumetoken.Coverage {
	common := other
	common.Collections = nil
	for _, name := range c.Collections {
		if other.Has(name) {
			common.Collections = append(common.Collections, name)
		}
	}
	return common
}

// storedLayout is the layout in force, with the last positions of the streams before it.
type storedLayout struct {
	ID         string         `bson:"id"`
	Generation int            `bson:"generation"`
	Layout     Layout         `bson:"streams"`
	Before     []lastPosition `bson:"before"`
}

// lastPosition is where a stream stood when its collections were handed over.
type lastPosition struct {
	resumetoken.Coverage `bson:"inline"`
	Token                bson.Raw                `bson:"token"`
	ClusterTime          bson.Timestamp          `bson:"clusterTime"`
	WallTime             time.Time               `bson:"wallTime,omitempty"`
	Fingerprint          string                  `bson:"fingerprint"`
	History              string                  `bson:"history,omitempty"`
	Published            []resumetoken.Published `bson:"published,omitempty"`
	Window               *resumetoken.Window     `bson:"window,omitempty"`
	Paused               bool                    `bson:"paused,omitempty"`
	// Counts are what the stream had committed.
	Counts *resumetoken.Counts `bson:"counts,omitempty"`
	// Live is set for a stream whose lost history was being repaired.
	Live *livePoint `bson:"live,omitempty"`
}

// livePoint is the point from which a stream reads live: its position or, while its lost
// history is being repaired, the end of the repair.
type livePoint struct {
	Token       bson.Raw       `bson:"token"`
	ClusterTime bson.Timestamp `bson:"clusterTime"`
}

func (b lastPosition) live() livePoint {
	if b.Live != nil {
		return *b.Live
	}
	return livePoint{Token: b.Token, ClusterTime: b.ClusterTime}
}

func (a livePoint) compare(b livePoint) int {
	textA, _ := tokens.Text(a.Token)
	textB, _ := tokens.Text(b.Token)
	return cmp.Or(a.ClusterTime.Compare(b.ClusterTime), strings.Compare(textA, textB))
}

// start is the position at which a stream of the layout begins: the lowest position of the
// streams that covered its collections before. If none covered them, it is the lowest
// position of the cluster, and zero if the cluster had no stream. Published has the changes
// after that position that the other streams had published.
//
// An unfinished repair of one of these streams begins anew, because it has other
// collections to scan. It ends at the earliest live point of these streams: changes after
// that point must come from the oplog, not from the collections.
func (r storedLayout) start(c resumetoken.Coverage) resumetoken.Position {
	covering := slices.DeleteFunc(slices.Clone(r.Before), func(b lastPosition) bool { return !share(b.Coverage, c) })
	from := covering
	if len(from) == 0 {
		from = slices.DeleteFunc(slices.Clone(r.Before), func(b lastPosition) bool { return b.Cluster != c.Cluster })
	}
	if len(from) == 0 {
		return resumetoken.Position{}
	}
	lowest := slices.MinFunc(from, func(a, b lastPosition) int {
		return livePoint{a.Token, a.ClusterTime}.compare(livePoint{b.Token, b.ClusterTime})
	})
	p := resumetoken.Position{Stream: c.Stream, Token: lowest.Token, ClusterTime: lowest.ClusterTime, Fingerprint: lowest.Fingerprint, History: lowest.History, Window: lowest.Window}
	for _, b := range from {
		// A repair's gap begins at the last change of the stream that is furthest behind.
		if !b.WallTime.IsZero() && (p.WallTime.IsZero() || b.WallTime.Before(p.WallTime)) {
			p.WallTime = b.WallTime.UTC()
		}
	}
	for _, b := range covering {
		// Collections that an operator has paused stay paused in every stream.
		p.Paused = p.Paused || b.Paused
		live := b.live()
		p.Published = append(p.Published, resumetoken.Published{Coverage: within(c, b.Coverage), Token: live.Token, ClusterTime: live.ClusterTime})
		for _, further := range b.Published {
			if share(further.Coverage, c) {
				further.Coverage = within(c, further.Coverage)
				p.Published = append(p.Published, further)
			}
		}
	}
	begin := p.Token
	if slices.ContainsFunc(from, func(b lastPosition) bool { return b.Live != nil }) {
		first := slices.MinFunc(from, func(a, b lastPosition) int { return a.live().compare(b.live()) }).live()
		p.Repair = &resumetoken.Repair{Token: first.Token, ClusterTime: first.ClusterTime}
		begin = first.Token
	}
	p.Published = resumetoken.Ahead(p.Published, begin)
	p.Counts = r.counts(c)
	return p
}

// counts are the counts with which a stream begins: those of the former stream of its name. The
// first stream of the layout adds those of all former streams that have no successor of their
// name. So the installation's sum stays.
func (r storedLayout) counts(c resumetoken.Coverage) (sum *resumetoken.Counts) {
	for _, b := range r.Before {
		_, stays := r.Layout.stream(b.Stream)
		if b.Stream == c.Stream || !stays && len(r.Layout) > 0 && r.Layout[0].Stream == c.Stream {
			sum = sum.With(b.Counts)
		}
	}
	return sum
}

// name is the name under which the layout is stored beside the streams' positions, and the
// member of the state that holds the layout. No stream can have this name.
const name = "layout"

// position gives the stored form of the layout.
func (r storedLayout) position() (resumetoken.Position, error) {
	r.Before = slices.Clone(r.Before)
	for i := range r.Before {
		r.Before[i].Published = resumetoken.Abbreviate(r.Before[i].Published)
	}
	document, err := bson.Marshal(bson.D{{Key: name, Value: r}})
	if err != nil {
		return resumetoken.Position{}, err
	}
	p := resumetoken.Position{Stream: name, State: &resumetoken.State{Document: document, Generation: r.Generation, ID: r.ID}}
	for _, b := range r.Before {
		// An older program would misread an entry with a From, and a window. With one in the
		// position itself, the position has a version that the older program refuses.
		if b.Window != nil {
			p.Window = b.Window
		}
		if i := slices.IndexFunc(b.Published, func(p resumetoken.Published) bool { return len(p.From) > 0 }); i >= 0 {
			p.Published = []resumetoken.Published{{From: b.Published[i].From, Token: b.Published[i].Token}}
		}
	}
	return p, nil
}

// read reads the layout from a stored position; it is zero if none is stored.
func read(p resumetoken.Position) (storedLayout, error) {
	var stored struct {
		Layout storedLayout `bson:"layout"`
	}
	if p.State == nil {
		return storedLayout{}, nil
	}
	if err := bson.Unmarshal(p.State.Document, &stored); err != nil {
		return storedLayout{}, err
	}
	for _, b := range stored.Layout.Before {
		resumetoken.Expand(b.Published)
	}
	return stored.Layout, nil
}
