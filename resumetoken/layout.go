package resumetoken

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Coverage is what one stream publishes: all changes of some collections of one
// cluster, or a slice of them by the hash of the document key.
type Coverage struct {
	// Stream is the stream's name.
	Stream string `json:"stream" bson:"stream"`
	// Cluster is the name of the cluster's default stream. It tells clusters apart
	// and, unlike an address, stays when a cluster moves.
	Cluster string `json:"cluster" bson:"cluster"`
	// Collections are the namespaces, such as fhir.Consent_4_0_0, sorted.
	Collections []string `json:"collections" bson:"collections"`
	// Slice is the number of the slice, from 0, and Of how many there are; 0 and 1
	// mean all of the collections.
	Slice int `json:"slice,omitempty" bson:"slice,omitempty"`
	Of    int `json:"of,omitempty" bson:"of,omitempty"`
}

// Published says that everything within a coverage has been published up to a token,
// whichever stream did it, or is a repair's to publish.
type Published struct {
	Coverage    `bson:"inline"`
	Token       bson.Raw       `bson:"token"`
	ClusterTime bson.Timestamp `bson:"clusterTime"`
}

// Has tells whether a collection is in the coverage, whatever its slice.
func (c Coverage) Has(collection string) bool { return slices.Contains(c.Collections, collection) }

// shares tells whether a change may belong to both coverages.
func (c Coverage) shares(other Coverage) bool {
	if c.Cluster != other.Cluster {
		return false
	}
	if c.Of > 1 && c.Of == other.Of && c.Slice != other.Slice {
		return false
	}
	return slices.ContainsFunc(c.Collections, other.Has)
}

// within is what two coverages that share something have in common, told as the
// other one's slice of this one's collections.
func (c Coverage) within(other Coverage) Coverage {
	common := other
	common.Collections = nil
	for _, name := range c.Collections {
		if other.Has(name) {
			common.Collections = append(common.Collections, name)
		}
	}
	return common
}

// Layout is how the streams of an installation share what it watches.
type Layout []Coverage

// ID names a layout: it is the same for the same streams, in whatever order.
func (l Layout) ID() string {
	sorted := slices.Clone(l)
	slices.SortFunc(sorted, func(a, b Coverage) int { return strings.Compare(a.Stream, b.Stream) })
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
func (l Layout) stream(name string) (Coverage, bool) {
	i := slices.IndexFunc(l, func(c Coverage) bool { return c.Stream == name })
	if i < 0 {
		return Coverage{}, false
	}
	return l[i], true
}

// LaterToken tells whether token a lies after token b in the oplog, by the order of
// their texts, which is the oplog's. It is false for tokens of an unknown form.
func LaterToken(a, b bson.Raw) bool {
	x, okX := a.Lookup("_data").StringValueOK()
	y, okY := b.Lookup("_data").StringValueOK()
	return okX && okY && x > y
}

// Ahead is what of published lies after a token: what other streams had published
// that this one has not passed yet.
func Ahead(published []Published, token bson.Raw) []Published {
	if len(published) == 0 {
		return nil
	}
	var ahead []Published
	for _, p := range published {
		if LaterToken(p.Token, token) {
			ahead = append(ahead, p)
		}
	}
	return ahead
}

// layoutRecord is the stored layout, and where the streams before it had come to.
type layoutRecord struct {
	ID         string `bson:"id"`
	Generation int    `bson:"generation"`
	Layout     Layout `bson:"streams"`
	// Before are the streams of the layout before, with their last positions.
	Before []lastPosition `bson:"before"`
}

// lastPosition is where a stream stood when its collections were handed over.
type lastPosition struct {
	Coverage    `bson:"inline"`
	Token       bson.Raw       `bson:"token"`
	ClusterTime bson.Timestamp `bson:"clusterTime"`
	Fingerprint string         `bson:"fingerprint"`
	Published   []Published    `bson:"published,omitempty"`
	Paused      bool           `bson:"paused,omitempty"`
	// Live is set for a stream whose lost history was being repaired.
	Live *livePoint `bson:"live,omitempty"`
}

// livePoint is where a stream goes on live: right after its position, or, when the
// history after that is lost, after what is being made up for.
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
	return cmp.Or(a.ClusterTime.Compare(b.ClusterTime), strings.Compare(tokenText(a.Token), tokenText(b.Token)))
}

// start is where a stream of the layout begins: at the lowest position of the
// streams that covered its collections before, and for collections that nobody
// covered at the lowest of their cluster. What others of them had published after
// that position is in Published. It is zero if there was no stream before.
//
// A repair that one of them had not come to the end of begins anew, because other
// collections are to be scanned. But it ends where the earliest of them was to go on
// live: what the oplog tells of after that must not be left to the collections.
func (r layoutRecord) start(c Coverage) Position {
	covering := slices.DeleteFunc(slices.Clone(r.Before), func(b lastPosition) bool { return !b.shares(c) })
	from := covering
	if len(from) == 0 {
		from = slices.DeleteFunc(slices.Clone(r.Before), func(b lastPosition) bool { return b.Cluster != c.Cluster })
	}
	if len(from) == 0 {
		return Position{}
	}
	lowest := slices.MinFunc(from, func(a, b lastPosition) int {
		return livePoint{a.Token, a.ClusterTime}.compare(livePoint{b.Token, b.ClusterTime})
	})
	p := Position{Stream: c.Stream, Token: lowest.Token, ClusterTime: lowest.ClusterTime, Fingerprint: lowest.Fingerprint}
	for _, b := range covering {
		// What an operator holds goes on being held, whichever stream has it.
		p.Paused = p.Paused || b.Paused
		live := b.live()
		p.Published = append(p.Published, Published{Coverage: c.within(b.Coverage), Token: live.Token, ClusterTime: live.ClusterTime})
		for _, further := range b.Published {
			if further.shares(c) {
				further.Coverage = c.within(further.Coverage)
				p.Published = append(p.Published, further)
			}
		}
	}
	begin := p.Token
	if slices.ContainsFunc(from, func(b lastPosition) bool { return b.Live != nil }) {
		first := slices.MinFunc(from, func(a, b lastPosition) int { return a.live().compare(b.live()) }).live()
		p.Repair = &Repair{Token: first.Token, ClusterTime: first.ClusterTime}
		begin = first.Token
	}
	p.Published = Ahead(p.Published, begin)
	return p
}

func tokenText(token bson.Raw) string {
	text, _ := token.Lookup("_data").StringValueOK()
	return text
}

// layoutKey is the member of the token under which a layout is stored: it has the
// store of a stream's position as its home, with all that guards it.
const layoutKey = "layout"

// position makes of the record what a Store keeps. The generation takes the place of
// the time, so that no store lets an older layout replace a newer one.
func (r layoutRecord) position() (Position, error) {
	token, err := bson.Marshal(bson.D{{Key: layoutKey, Value: r}})
	if err != nil {
		return Position{}, err
	}
	return Position{Stream: LayoutStream, Token: token, ClusterTime: bson.Timestamp{T: uint32(r.Generation)}, Fingerprint: r.ID}, nil
}

func decodeLayout(p Position) (layoutRecord, error) {
	var stored struct {
		Layout layoutRecord `bson:"layout"`
	}
	if bytes.Equal(p.Token, nil) {
		return layoutRecord{}, nil
	}
	if err := bson.Unmarshal(p.Token, &stored); err != nil {
		return layoutRecord{}, err
	}
	return stored.Layout, nil
}

// LayoutStream is the name under which the layout is stored beside the streams'
// positions. No stream can have it.
const LayoutStream = "layout"
