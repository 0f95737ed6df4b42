package verify

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/peak"
)

// envSoak switches the endurance tests on; make soak sets it.
const envSoak = "FHIR_CDC_TEST_SOAK"

// memoryLimit is what the comparison of any number of events may take.
const memoryLimit = 300 << 20

// A comparison finds the faults among many events without its memory growing with
// their number.
func TestComparisonMemory(t *testing.T) { testComparisonMemory(t, 300_000) }

// TestSoakComparisonMemory does it with 10 million.
func TestSoakComparisonMemory(t *testing.T) {
	if os.Getenv(envSoak) == "" {
		t.Skip("takes minutes: make soak")
	}
	testComparisonMemory(t, 10_000_000)
}

func testComparisonMemory(t *testing.T, events int) {
	peak.Reset(t)
	c := newComparison(t.TempDir(), []string{"events"})
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	origin := c.origin(eventOrigin{Kind: "change", Namespace: "fhir.Consent_4_0_0"})
	var name [8]byte
	missing, repeated := 0, 0
	for n := range events {
		binary.BigEndian.PutUint64(name[:], uint64(n))
		e := entry{id: uuid.NewSHA1(uuid.NameSpaceOID, name[:]), place: uint64(n) + 1, key: uint64(n % 1_000_003), at: uint64(n) << 32, origin: origin, partition: int32(uint32(recordKey(nil)))}
		if err := c.add(&e); err != nil {
			t.Fatal(err)
		}
		if n%100_000 == 7 {
			missing++
			continue
		}
		e.class, e.key = found, recordKey(nil)
		if err := c.add(&e); err != nil {
			t.Fatal(err)
		}
		if n%100_000 == 9 {
			repeated++
			e.place = uint64(events + n)
			if err := c.add(&e); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := newReporter(c.topics, map[string][]mapper.Kind{"events": {mapper.KindChange}}, 10)
	if err := c.compare(r); err != nil {
		t.Fatal(err)
	}
	got := r.finish(false).Topics[0]
	if got.Expected != int64(events) || got.Missing != int64(missing) || got.Duplicated != int64(repeated) || got.Unexpected+got.OutOfOrder != 0 {
		t.Errorf("of %d events, %d missing and %d repeated: %+v", events, missing, repeated, got)
	}
	most := peak.Bytes(t)
	t.Logf("%d events and their records: peak memory of the process %d MiB", events, most>>20)
	if most > memoryLimit {
		t.Errorf("peak memory %d MiB, the limit is %d", most>>20, memoryLimit>>20)
	}
}
