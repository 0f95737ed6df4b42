package replay

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/mapper"
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
	resetPeak(t)
	c := newComparison(t.TempDir(), []string{"events"})
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	origin := c.origin(Origin{Kind: "change", Namespace: "fhir.Consent_4_0_0"})
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
	peak := peakMemory(t)
	t.Logf("%d events and their records: peak memory of the process %d MiB", events, peak>>20)
	if peak > memoryLimit {
		t.Errorf("peak memory %d MiB, the limit is %d", peak>>20, memoryLimit>>20)
	}
}

// resetPeak has the peak of the process's memory count from here.
func resetPeak(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector takes memory of its own: make test runs this one without it too")
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("the kernel does not reset the peak of the memory: %v", err)
	}
}

func peakMemory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no peak memory")
	return 0
}
