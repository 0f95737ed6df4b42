package lookup

import (
	"bytes"
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
}

// wanted is a version that is asked for. Its request id is "" while it is missing.
type wanted struct {
	key versionKey
	age time.Duration
	answer
}

// answer is a version's request id, and the _id of the history document that tells it.
type answer struct {
	requestID string
	id        bson.ObjectID
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
		w := g.all[key]
		if w == nil {
			w = &each[i]
			w.key, w.age = key, v.Age
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
func (g *group) add(key versionKey, a answer) {
	w, asked := g.all[key]
	if !asked || w.requestID != "" && bytes.Compare(w.id[:], a.id[:]) <= 0 {
		return
	}
	w.answer = a
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
			if d := wait - max(w.age, 0); d > 0 {
				kept = append(kept, w)
				left = max(left, d)
			}
		}
		g.pending = kept
	}
	return left, left > 0
}

// results puts the answers into the order of versions.
func (s *search) results() (ids []string, found int) {
	ids = make([]string, len(s.of))
	for i, w := range s.of {
		if w != nil && w.requestID != "" {
			ids[i] = w.requestID
			found++
		}
	}
	return ids, found
}
