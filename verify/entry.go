package verify

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// class is the meaning of an entry for its event. The classes of one event
// are sorted in this order.
type class byte

const (
	// required: the oplog says that the event must be there.
	required class = iota
	// scanned: a collection says so; it may say so more than once, and besides the
	// oplog.
	scanned
	// possible: the event may be there. It lies outside of the span that is asked for.
	possible
	// found: a record of the event is there.
	found
	// completed: a completion has published the event, later than its neighbours.
	completed
	// held: a record of the event is there, behind a transaction that does not end.
	held
)

// entry is what the oplog, a collection or a topic knows of one event.
type entry struct {
	id    uuid.UUID
	topic uint8 // by the number of the topic
	class class
	// place is the oplog's order, or a record's offset.
	place uint64
	// key is a hash of the record's key: of an event with the stream, by which its order
	// is checked, of a record without.
	key uint64
	// at is when: by the oplog, or a record's timestamp in milliseconds.
	at uint64
	// partition is a record's own; of an event it is the low half of the hash of the key that
	// its record must have.
	partition int32
	// origin is the number of the namespace, kind and profile that an event comes from; of a
	// record it is strictRecord or 0.
	origin uint16
}

// strictRecord is the origin of the records whose events are strict.
const strictRecord = 1

// entrySize is the size of an entry on disk. 10 million events and their records are
// 960 MB.
const entrySize = 16 + 1 + 1 + 8 + 8 + 8 + 4 + 2

// append writes e so that the bytes sort by id, topic, class and place.
func (e *entry) append(b []byte) []byte {
	b = append(b, e.id[:]...)
	b = append(b, e.topic, byte(e.class))
	b = binary.BigEndian.AppendUint64(b, e.place)
	b = binary.BigEndian.AppendUint64(b, e.key)
	b = binary.BigEndian.AppendUint64(b, e.at)
	b = binary.BigEndian.AppendUint32(b, uint32(e.partition))
	return binary.BigEndian.AppendUint16(b, e.origin)
}

func (e *entry) read(b []byte) {
	copy(e.id[:], b)
	e.topic, e.class = b[16], class(b[17])
	e.place = binary.BigEndian.Uint64(b[18:])
	e.key = binary.BigEndian.Uint64(b[26:])
	e.at = binary.BigEndian.Uint64(b[34:])
	e.partition = int32(binary.BigEndian.Uint32(b[42:]))
	e.origin = binary.BigEndian.Uint16(b[46:])
}

// keyed is one event in the order of its key.
type keyed struct {
	topic     uint8
	key       uint64
	place     uint64 // the oplog's order
	partition int32
	offset    uint64
	id        uuid.UUID
}

const keyedSize = 1 + 8 + 8 + 4 + 8 + 16

// append writes s so that the bytes sort by topic, key and the oplog's order.
func (s *keyed) append(b []byte) []byte {
	b = append(b, s.topic)
	b = binary.BigEndian.AppendUint64(b, s.key)
	b = binary.BigEndian.AppendUint64(b, s.place)
	b = binary.BigEndian.AppendUint32(b, uint32(s.partition))
	b = binary.BigEndian.AppendUint64(b, s.offset)
	return append(b, s.id[:]...)
}

func (s *keyed) read(b []byte) {
	s.topic = b[0]
	s.key = binary.BigEndian.Uint64(b[1:])
	s.place = binary.BigEndian.Uint64(b[9:])
	s.partition = int32(binary.BigEndian.Uint32(b[17:]))
	s.offset = binary.BigEndian.Uint64(b[21:])
	copy(s.id[:], b[29:])
}

// hashKey tells keys apart for the check of their order, which is that of a stream:
// two resources of one id may be in different streams.
func hashKey(stream string, key []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(stream))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(key)
	return h.Sum64()
}

// recordKey tells whether a record has the key of its event.
func recordKey(key []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(key)
	return h.Sum64()
}

func packTime(t bson.Timestamp) uint64 { return uint64(t.T)<<32 | uint64(t.I) }

func unpackTime(t uint64) time.Time { return time.Unix(int64(t>>32), 0).UTC() }

// blockEntries is how many entries are looked for in one pass over the oplog: 28 MB.
const blockEntries = 500_000

// inBlocks hands over sorted entries in blocks that fit into memory, so that each
// block can be looked for in a pass of its own. Nearly always there is one or none.
func inBlocks(s *sorter, fn func([]entry) error) error {
	var block []entry
	err := s.each(func(record []byte) error {
		var e entry
		e.read(record)
		block = append(block, e)
		if len(block) < blockEntries {
			return nil
		}
		err := fn(block)
		block = block[:0]
		return err
	})
	if err != nil || len(block) == 0 {
		return err
	}
	return fn(block)
}

// find gives the place of the first of the entries of an id, in entries that are
// sorted.
func find(entries []entry, id uuid.UUID) (int, bool) {
	return slices.BinarySearchFunc(entries, id, func(e entry, id uuid.UUID) int { return bytes.Compare(e.id[:], id[:]) })
}

// mark marks the entries of an id.
func mark(entries []entry, text string, marked []bool) {
	id, err := uuid.Parse(text)
	if err != nil {
		return
	}
	for i, ok := find(entries, id); ok && i < len(entries) && entries[i].id == id; i++ {
		marked[i] = true
	}
}
