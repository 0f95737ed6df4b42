package repair

import (
	"os"
	"testing"

	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/test/peak"
)

// recordBytes is what an event takes on its way from the topic to the set, in memory
// that is garbage then.
const recordBytes = 1000

// TestSoakKnownMemory gives the figure of docs/backfill-and-repair.md: the memory of the
// process with the ids of 10 million events, while their records come and go.
func TestSoakKnownMemory(t *testing.T) {
	if os.Getenv("FHIR_CDC_TEST_SOAK") == "" {
		t.Skip("takes a minute: make soak")
	}
	const n, limit = 10_000_000, 420 << 20
	peak.Reset(t)
	k := newKnown()
	garbage := make([][]byte, 100)
	madeIDs(0, n, func(id string) {
		garbage[k.count%len(garbage)] = make([]byte, recordBytes)
		k.add(id)
	})
	most, held := peak.Bytes(t), heap()
	t.Logf("%d ids: %d MiB held, %.1f bytes each; peak memory of the process %d MiB", k.count, held>>20, float64(held)/n, most>>20)
	if most > limit {
		t.Errorf("peak memory %d MiB, the limit is %d", most>>20, limit>>20)
	}
	if !k.has(uuid.NewSHA1(uuid.NameSpaceOID, make([]byte, 8)).String()) {
		t.Error("the first id is not known")
	}
}
