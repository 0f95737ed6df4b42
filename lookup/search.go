package lookup

import "time"

// search is the state of one Look or Find: the versions still missing, by collection.
type search struct {
	groups []*group
	byName map[string]*group
}

// group is the part of a search that one collection's history answers.
type group struct {
	collection string
	found      map[versionKey]string // "" while missing
	pending    []wanted
}

type wanted struct {
	key versionKey
	age time.Duration
}

func newSearch(versions []Version) *search {
	s := &search{byName: make(map[string]*group)}
	for i := range versions {
		v := &versions[i]
		key, ok := v.key()
		if !ok {
			continue
		}
		g := s.byName[v.Collection]
		if g == nil {
			g = &group{collection: v.Collection, found: make(map[versionKey]string)}
			s.byName[v.Collection] = g
			s.groups = append(s.groups, g)
		}
		if _, twice := g.found[key]; twice {
			continue
		}
		g.found[key] = ""
		g.pending = append(g.pending, wanted{key: key, age: v.Age})
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
	for i := range g.pending {
		keys[i] = g.pending[i].key
	}
	return keys
}

// add takes an answer. It ignores keys that were not asked for: a query by uuids and times
// also matches other pairs of them.
func (g *group) add(key versionKey, requestID string) {
	if _, asked := g.found[key]; asked {
		g.found[key] = requestID
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
func (s *search) results(versions []Version) (ids []string, found int) {
	ids = make([]string, len(versions))
	for i := range versions {
		key, ok := versions[i].key()
		if !ok {
			continue
		}
		if id := s.byName[versions[i].Collection].found[key]; id != "" {
			ids[i] = id
			found++
		}
	}
	return ids, found
}
