package lookup

import "sync"

// Seen is a bounded set of request ids: the same request may appear in more than
// one source, and gives one event. It forgets the oldest ids first.
//
// It remembers added ids, published or not: a stream that is read again from a stored
// position starts with a new Seen.
//
// It may be used by several goroutines.
type Seen struct {
	mu   sync.Mutex
	ids  map[string]struct{}
	ring []string // in the order of adding; the oldest is at next once it is full
	next int
	size int
}

// NewSeen returns an empty set that holds up to size ids, at least one.
func NewSeen(size int) *Seen {
	return &Seen{ids: make(map[string]struct{}), size: max(size, 1)}
}

// Add adds id and tells whether it is new. The empty id names no request: it is always new,
// and not kept.
func (s *Seen) Add(id string) (isNew bool) {
	if id == "" {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.ids[id]; known {
		return false
	}
	s.ids[id] = struct{}{}
	if len(s.ring) < s.size {
		s.ring = append(s.ring, id)
		return true
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next] = id
	s.next = (s.next + 1) % s.size
	return true
}
