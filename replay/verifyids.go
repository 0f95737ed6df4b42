package replay

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/lookup"
)

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

// noPersons stands in for look-ups where only ids matter.
type noPersons struct{}

func (noPersons) Find(context.Context, []string) (map[string]lookup.Person, error) { return nil, nil }
func (noPersons) Changed(string, string, []string)                                 {}
func (noPersons) Forget()                                                          {}
