package repair

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/google/uuid"
)

// madeIDs hands over ids as the mapper makes them.
func madeIDs(from, to int, each func(id string)) {
	var name [8]byte
	for n := from; n < to; n++ {
		binary.BigEndian.PutUint64(name[:], uint64(n))
		each(uuid.NewSHA1(uuid.NameSpaceOID, name[:]).String())
	}
}

// An id that is not in the set must never be taken for one that is: its event would be
// lost.
func TestKnownIsExact(t *testing.T) {
	const n = 200_000
	k := newKnown()
	for range 2 {
		madeIDs(0, n, k.add)
	}
	k.add("no UUID")
	if k.count != n {
		t.Errorf("%d ids are in the set, want %d", k.count, n)
	}
	madeIDs(0, n, func(id string) {
		if !k.has(id) {
			t.Fatalf("%s is not known", id)
		}
	})
	madeIDs(n, 2*n, func(id string) {
		if k.has(id) {
			t.Fatalf("%s is known", id)
		}
	})
	if k.has("no UUID") {
		t.Error("what is no UUID is known")
	}
}

// Ids that differ in few bits, as ids that count up do, are told apart and do not gather
// in one place.
func TestKnownSpreadsIDs(t *testing.T) {
	const n = 100_000
	for name, at := range map[string]int{"count at the end": 12, "time at the beginning": 0} {
		t.Run(name, func(t *testing.T) {
			k := newKnown()
			var u uuid.UUID
			for i := range n {
				binary.BigEndian.PutUint32(u[at:], uint32(i))
				k.add(u.String())
			}
			if k.count != n {
				t.Errorf("%d ids are in the set, want %d", k.count, n)
			}
			longest := 0
			for _, shard := range k.shards {
				longest = max(longest, len(shard))
			}
			if fair := n / knownShards; longest > 10*fair {
				t.Errorf("%d ids are in one place, %d would be fair", longest, fair)
			}
		})
	}
}

// The memory of each id is bounded: what a repair takes can be told from the number of
// events in the gap.
func TestKnownMemory(t *testing.T) {
	const n, limit = 1_000_000, 20
	before := heap()
	k := newKnown()
	madeIDs(0, n, k.add)
	each := float64(heap()-before) / n
	t.Logf("%d ids take %.1f bytes each", k.count, each)
	if each > limit {
		t.Errorf("an id takes %.1f bytes, the limit is %d", each, limit)
	}
	runtime.KeepAlive(k)
}

// heap is what is held now.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkKnown(b *testing.B) {
	k := newKnown()
	madeIDs(0, 1_000_000, k.add)
	id := uuid.NewSHA1(uuid.NameSpaceOID, []byte("x")).String()
	for b.Loop() {
		if k.has(id) {
			b.Fatal("known")
		}
	}
}
