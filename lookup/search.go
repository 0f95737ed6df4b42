package lookup

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// search is the state of one Look or Find: the versions still missing, by collection.
type search struct {
	groups []*group
	// of are the versions' own, in their order; nil for a version that cannot be asked for.
	of []*wanted
}

// group is the part of a search that one collection's history answers.
type group struct {
	collection string
	all        map[versionKey]*wanted
	pending    []*wanted
	// links says that links are asked for.
	links bool
}

// wanted is a version that is asked for.
type wanted struct {
	*Version
	key versionKey
	answer
}

// answer is a version's Answer, and the _id of the history document that tells it.
type answer struct {
	Answer
	id bson.ObjectID
}

// earlier is a version of a resource from before another one, or the delete of the resource.
type earlier struct {
	key     versionKey
	deleted bool
	links   bson.RawArray
	id      bson.ObjectID
}

func newSearch(versions []Version) *search {
	s := &search{of: make([]*wanted, len(versions))}
	sizes := make(map[string]int)
	for i := range versions {
		sizes[versions[i].Collection]++
	}
	byName := make(map[string]*group, len(sizes))
	each := make([]wanted, len(versions))
	for i := range versions {
		v := &versions[i]
		key, ok := v.key()
		if !ok {
			continue
		}
		g := byName[v.Collection]
		if g == nil {
			n := sizes[v.Collection]
			g = &group{collection: v.Collection, all: make(map[versionKey]*wanted, n), pending: make([]*wanted, 0, n)}
			byName[v.Collection] = g
			s.groups = append(s.groups, g)
		}
		g.links = g.links || v.Links
		w := g.all[key]
		if w == nil {
			w = &each[i]
			w.Version, w.key = v, key
			w.Before = v.LinksBefore
			g.all[key] = w
			g.pending = append(g.pending, w)
		}
		s.of[i] = w
	}
	return s
}

// key is false for a version that lacks a field for matching history documents.
func (v *Version) key() (versionKey, bool) {
	if v.Collection == "" || v.UUID == "" || v.VersionID == "" || v.LastUpdated.IsZero() {
		return versionKey{}, false
	}
	return versionKey{uuid: v.UUID, versionID: v.VersionID, lastUpdated: v.LastUpdated.UnixMilli()}, true
}

func (g *group) keys() []versionKey {
	keys := make([]versionKey, len(g.pending))
	for i, w := range g.pending {
		keys[i] = w.key
	}
	return keys
}

// add takes an answer. It ignores keys that were not asked for: a query by uuids and times
// also matches other pairs of them. If a version has two history documents, the one with the
// smaller _id counts: it is the older one, so an earlier look at the same version found the same.
// When it comes, all that was written before it has come too: the links before are asked for anew.
func (g *group) add(key versionKey, a answer) {
	w, asked := g.all[key]
	if !asked || w.RequestID != "" && bytes.Compare(w.id[:], a.id[:]) <= 0 {
		return
	}
	if w.Complete || w.RequestID != "" {
		a.Before = w.Before
	}
	a.Complete = w.Complete
	w.answer = a
}

// settle drops the versions with enough of an answer.
func (g *group) settle() {
	g.pending = slices.DeleteFunc(g.pending, func(w *wanted) bool {
		w.Complete = w.RequestID != ""
		if w.Enough != nil {
			w.Complete = w.Enough(w.Answer)
		}
		return w.Complete
	})
}

// before are the keys of the versions whose predecessors are asked for.
func (g *group) before() (keys []versionKey) {
	for _, w := range g.pending {
		if w.Links && w.Before == nil && w.key.predecessor() != "" {
			keys = append(keys, w.key)
		}
	}
	return keys
}

// predecessor is the number of the version before, "" if there cannot be one.
func (k versionKey) predecessor() string {
	n, err := strconv.Atoi(k.versionID)
	if err != nil || n < 2 {
		return ""
	}
	return strconv.Itoa(n - 1)
}

// addBefore gives the pending versions the links of their predecessors. A resource that was
// deleted and created again has numbers twice: the predecessor is from between the same deletes.
func (g *group) addBefore(all []earlier) {
	of := make(map[string][]earlier, len(g.pending))
	for _, e := range all {
		of[e.key.uuid] = append(of[e.key.uuid], e)
	}
	for _, w := range g.pending {
		begin, end := int64(math.MinInt64), int64(math.MaxInt64)
		for _, e := range of[w.key.uuid] {
			switch at := e.key.lastUpdated; {
			case !e.deleted:
			case at < w.key.lastUpdated:
				begin = max(begin, at)
			default:
				end = min(end, at)
			}
		}
		var last *earlier
		for i := range of[w.key.uuid] {
			e := &of[w.key.uuid][i]
			if e.deleted || e.key.versionID != w.key.predecessor() || e.key.lastUpdated <= begin || e.key.lastUpdated > end {
				continue
			}
			if last == nil || e.precedes(w.key, last) {
				last = e
			}
		}
		if w.Links && last != nil {
			w.Before = last.links
		}
	}
}

// precedes tells whether e is rather than other the version before one: the nearest that is not
// later, else the nearest later one, by another clock. So a life that follows without a known
// delete, as after a program's, changes nothing of an answer.
func (e *earlier) precedes(version versionKey, other *earlier) bool {
	a, b := e.key.lastUpdated, other.key.lastUpdated
	switch {
	case a == b:
		return bytes.Compare(e.id[:], other.id[:]) < 0
	case a > version.lastUpdated && b > version.lastUpdated:
		return a < b
	case a <= version.lastUpdated && b <= version.lastUpdated:
		return a > b
	default:
		return a < b
	}
}

// missing is the number of versions without an answer.
func (s *search) missing() (n int) {
	for _, g := range s.groups {
		n += len(g.pending)
	}
	return n
}

// giveUp drops the versions whose wait is over, and returns how long the others may still
// wait; more is false if none is left.
func (s *search) giveUp(wait time.Duration) (left time.Duration, more bool) {
	for _, g := range s.groups {
		kept := g.pending[:0]
		for _, w := range g.pending {
			if d := wait - max(w.Age, 0); d > 0 {
				kept = append(kept, w)
				left = max(left, d)
			}
		}
		g.pending = kept
	}
	return left, left > 0
}

// results puts the answers into the order of versions.
func (s *search) results() (answers []Answer, found int) {
	answers = make([]Answer, len(s.of))
	for i, w := range s.of {
		if w == nil {
			continue
		}
		answers[i] = w.Answer
		if w.Complete {
			found++
		}
	}
	return answers, found
}
