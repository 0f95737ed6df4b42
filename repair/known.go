package repair

import (
	"encoding/binary"
	"slices"

	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
)

// known is an exact set of event ids, which are UUIDs. A large set takes about 18 bytes of
// memory an id. A smaller, inexact set (a Bloom filter) would leave events out.
type known struct {
	// shards are sorted. The scattered ids keep each shard small enough to insert into.
	shards [knownShards][]idKey
	count  int
}

// idKey is a UUID as two numbers, which are faster to compare than its bytes.
type idKey struct{ high, low uint64 }

const (
	// With 2^14 shards there are 610 of 10 million ids in each.
	knownShardBits = 14
	knownShards    = 1 << knownShardBits
	// scatter is the golden ratio as a fraction of 2^64: it also spreads ids that are
	// counted up, or begin with a time, over all shards.
	scatter = 0x9E3779B97F4A7C15
)

func newKnown() *known { return &known{} }

// find gives the id's shard and its place there; ok is false if the id is not a UUID.
func (k *known) find(id string) (shard *[]idKey, key idKey, place int, there, ok bool) {
	u, err := uuid.Parse(id)
	if err != nil {
		return nil, key, 0, false, false
	}
	key = idKey{binary.BigEndian.Uint64(u[:8]), binary.BigEndian.Uint64(u[8:])}
	shard = &k.shards[((key.high^key.low)*scatter)>>(64-knownShardBits)]
	place, there = slices.BinarySearchFunc(*shard, key, idKey.compare)
	return shard, key, place, there, true
}

func (a idKey) compare(b idKey) int {
	switch {
	case a.high < b.high || a.high == b.high && a.low < b.low:
		return -1
	case a == b:
		return 0
	}
	return 1
}

// add adds an id. It ignores ids that are not UUIDs: no event made here has one.
func (k *known) add(id string) {
	shard, key, place, there, ok := k.find(id)
	if !ok || there {
		return
	}
	if len(*shard) == cap(*shard) {
		// By an eighth: append would double the shard, and half of the memory could be unused.
		grown := slices.Grow([]idKey(nil), len(*shard)+len(*shard)/8+4)
		*shard = append(grown, *shard...)
	}
	*shard = slices.Insert(*shard, place, key)
	k.count++
}

func (k *known) has(id string) bool {
	_, _, _, there, _ := k.find(id)
	return there
}

// drop removes the events that are known, and adds the others.
func (k *known) drop(events []mapper.Event) []mapper.Event {
	kept := events[:0]
	for _, e := range events {
		if !k.has(e.ID) {
			k.add(e.ID)
			kept = append(kept, e)
		}
	}
	return kept
}

// missing gives the changes with an event that is not known, or with a failure.
func (k *known) missing(m *mapper.Mapper, changes []mapper.Change) []mapper.Change {
	kept := make([]mapper.Change, 0, len(changes))
	for i := range changes {
		out := replay.Bare(m, &changes[i])
		wanted := len(out.Failures) > 0
		for _, e := range out.Events {
			wanted = wanted || !k.has(e.ID)
		}
		if wanted {
			kept = append(kept, changes[i])
		}
	}
	return kept
}
