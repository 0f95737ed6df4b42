package verify

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// sorter sorts records of one size by their bytes, more of them than fit into memory:
// full blocks are sorted and written one after the other to a temporary file, and
// merged when they are read. It is for one goroutine.
//
// Libraries for it work on values that each have memory of their own; with twenty
// million records of 48 bytes that memory and its collection are most of the cost.
type sorter struct {
	dir  string
	size int
	// block holds the records that are not in the file, up to its capacity.
	block []byte
	order []uint32 // of the block's records, used again for each block
	file  *os.File // nil until a block is full
	runs  []run
	count int64
}

// run is a sorted part of the file.
type run struct{ offset, length int64 }

const (
	// mergeBuffer is read of each run at once.
	mergeBuffer = 128 << 10
	writeBuffer = 1 << 20
)

// newSorter sorts records of size bytes in about memory bytes; its file is in dir.
func newSorter(dir string, size, memory int) *sorter {
	records := max(memory/(size+4), 1) // with each record's place in order
	return &sorter{dir: dir, size: size, block: make([]byte, 0, records*size)}
}

// add copies a record.
func (s *sorter) add(record []byte) error {
	if len(s.block) == cap(s.block) {
		if err := s.spill(); err != nil {
			return fmt.Errorf("sort more than %d records in %s (--temp-dir names another directory): %w", s.count, s.dir, err)
		}
	}
	s.block = append(s.block, record...)
	s.count++
	return nil
}

func (s *sorter) record(n uint32) []byte { return s.block[int(n)*s.size:][:s.size] }

// sortBlock finds the order of the block's records.
func (s *sorter) sortBlock() {
	s.order = slices.Grow(s.order[:0], len(s.block)/s.size)
	for i := range len(s.block) / s.size {
		s.order = append(s.order, uint32(i))
	}
	slices.SortFunc(s.order, func(a, b uint32) int { return bytes.Compare(s.record(a), s.record(b)) })
}

// spill writes the block to the file as a run.
func (s *sorter) spill() error {
	if s.file == nil {
		file, err := temporary(s.dir)
		if err != nil {
			return err
		}
		s.file = file
	}
	s.sortBlock()
	next := run{length: int64(len(s.block))}
	if n := len(s.runs); n > 0 {
		next.offset = s.runs[n-1].offset + s.runs[n-1].length
	}
	out := bufio.NewWriterSize(s.file, writeBuffer)
	for _, n := range s.order {
		_, _ = out.Write(s.record(n)) // the flush reports it
	}
	if err := out.Flush(); err != nil {
		return err
	}
	s.runs = append(s.runs, next)
	s.block = s.block[:0]
	return nil
}

// temporary makes a file that is gone as soon as it is closed, or the process ends in
// whatever way. Where the system cannot take the name of an open file away, it is
// removed when it is closed in order.
func temporary(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "fhir-cdc-*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(file.Name())
	return file, nil
}

// each hands over all records in order. The record is only valid during the call. No
// record can be added afterwards.
func (s *sorter) each(fn func(record []byte) error) error {
	if len(s.runs) == 0 {
		s.sortBlock()
		for _, n := range s.order {
			if err := fn(s.record(n)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(s.block) > 0 {
		if err := s.spill(); err != nil {
			return fmt.Errorf("sort in %s: %w", s.dir, err)
		}
	}
	s.block, s.order = nil, nil
	return s.merge(fn)
}

// head is the next record of a run.
type head struct {
	record []byte
	rest   io.Reader
}

func (s *sorter) merge(fn func(record []byte) error) error {
	heads := make([]*head, 0, len(s.runs)) // the smallest record first: a heap
	for _, r := range s.runs {
		h := &head{record: make([]byte, s.size), rest: bufio.NewReaderSize(io.NewSectionReader(s.file, r.offset, r.length), mergeBuffer)}
		if _, err := io.ReadFull(h.rest, h.record); err != nil {
			return fmt.Errorf("read sorted records: %w", err)
		}
		heads = append(heads, h)
	}
	for i := len(heads)/2 - 1; i >= 0; i-- {
		siftDown(heads, i)
	}
	for len(heads) > 0 {
		h := heads[0]
		if err := fn(h.record); err != nil {
			return err
		}
		_, err := io.ReadFull(h.rest, h.record)
		switch {
		case errors.Is(err, io.EOF):
			last := len(heads) - 1
			heads[0], heads = heads[last], heads[:last]
		case err != nil:
			return fmt.Errorf("read sorted records: %w", err)
		}
		siftDown(heads, 0)
	}
	return nil
}

// siftDown moves a head down to its place in the heap.
func siftDown(heads []*head, i int) {
	for {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(heads) && bytes.Compare(heads[child].record, heads[least].record) < 0 {
				least = child
			}
		}
		if least == i {
			return
		}
		heads[i], heads[least] = heads[least], heads[i]
		i = least
	}
}

// close frees the memory and the file.
func (s *sorter) close() error {
	s.block, s.order, s.runs = nil, nil, nil
	if s.file == nil {
		return nil
	}
	name := s.file.Name()
	err := s.file.Close()
	s.file = nil
	if _, there := os.Lstat(name); there == nil {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
