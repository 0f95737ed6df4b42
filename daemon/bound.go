package daemon

import (
	"iter"
	"sync"
	"time"

	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const (
	// shrinkBy is how much smaller batches become after one that could not be committed in
	// time. Each try takes kafka.transaction_timeout, so it is a large step.
	shrinkBy = 4
	// growBy is the part by which they become larger after one that was committed in less
	// than a part of that time, inTime.
	growBy = 4
	inTime = 4
)

// bound is the largest number of changes of a batch while the brokers end transactions that take
// longer than kafka.transaction_timeout, because of a quota or a slow network. Without it the same
// batch would be ended again and again.
type bound struct {
	mu sync.Mutex
	// changes is the bound; 0 is none.
	changes int
	// slow is how long the commit took that was ended; a second at least, since a commit may be
	// ended for another reason.
	slow time.Duration
}

// atMost is the bound, or most if that is less.
func (b *bound) atMost(most int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes == 0 {
		return most
	}
	return min(b.changes, most)
}

// shrink notes that a batch could not be committed in time, and returns the new bound.
func (b *bound) shrink(changes int, took time.Duration) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes, b.slow = max(1, changes/shrinkBy), max(took, time.Second)
	return b.changes
}

// grow notes that a batch was committed. A batch below the bound does not raise it.
func (b *bound) grow(changes, most int, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes == 0 || changes < b.changes || took > b.slow/inTime {
		return
	}
	if b.changes += b.changes/growBy + 1; b.changes >= most {
		b.changes = 0
	}
}

// pieces cuts a chunk into chunks within the bound, which may change from one to the next.
func (b *bound) pieces(c watcher.Chunk) iter.Seq[watcher.Chunk] {
	return func(yield func(watcher.Chunk) bool) {
		for more := true; more; {
			var piece watcher.Chunk
			piece, c = cut(c, b.atMost(len(c.Changes)))
			if more = len(c.Changes) > 0; !yield(piece) {
				return
			}
		}
	}
}

// cut cuts a chunk after n changes, or after the next one whose token can be stored.
func cut(c watcher.Chunk, n int) (piece, left watcher.Chunk) {
	for ; n < len(c.Changes); n++ {
		token, ok := c.Changes[n-1].Lookup("_id").DocumentOK()
		if !ok || large(token) {
			continue
		}
		piece, left = watcher.Chunk{Changes: c.Changes[:n:n], Read: c.Read, Token: token}, c
		for _, raw := range piece.Changes {
			piece.Size += len(raw)
		}
		left.Changes, left.Size = c.Changes[n:], c.Size-piece.Size
		return piece, left
	}
	return c, watcher.Chunk{}
}
