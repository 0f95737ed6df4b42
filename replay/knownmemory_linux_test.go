package replay

import (
	"os"
	"testing"

	"github.com/google/uuid"
)

// recordBytes is what an event takes on its way from the topic to the set, in memory
// that is garbage then.
const recordBytes = 1000

// TestSoakKnownMemory gives the figure of docs/backfill-and-repair.md: the memory of the
// process with the ids of 10 million events, while their records come and go.
func TestSoakKnownMemory(t *testing.T) {
	if os.Getenv(envSoak) == "" {
		t.Skip("takes a minute: make soak")
	}
	const n, limit = 10_000_000, 420 << 20
	resetPeak(t)
	k := newKnown()
	garbage := make([][]byte, 100)
	madeIDs(0, n, func(id string) {
		garbage[k.count%len(garbage)] = make([]byte, recordBytes)
		k.add(id)
	})
	peak, held := peakMemory(t), heap()
	t.Logf("%d ids: %d MiB held, %.1f bytes each; peak memory of the process %d MiB", k.count, held>>20, float64(held)/n, peak>>20)
	if peak > limit {
		t.Errorf("peak memory %d MiB, the limit is %d", peak>>20, limit>>20)
	}
	if !k.has(uuid.NewSHA1(uuid.NameSpaceOID, make([]byte, 8)).String()) {
		t.Error("the first id is not known")
	}
}
