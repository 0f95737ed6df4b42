package verify

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

func TestSorter(t *testing.T) {
	seed := uint64(20261124)
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{0, 1, 2, 99, 100, 101, 5000} {
		dir := t.TempDir()
		s := newSorter(dir, 8, 100*12) // blocks of 100
		var want [][]byte
		for range n {
			record := make([]byte, 8)
			for i := range record {
				record[i] = byte(random.UintN(4)) // some are equal
			}
			want = append(want, record)
			if err := s.add(record); err != nil {
				t.Fatal(err)
			}
		}
		slices.SortFunc(want, bytes.Compare)
		var got [][]byte
		if err := s.each(func(record []byte) error { got = append(got, bytes.Clone(record)); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d records are not in order, or not all", n)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%d records: before the end the directory holds %v, %v", n, left, err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSorterStopsAtTheReceiversError(t *testing.T) {
	want := errors.New("enough")
	for _, n := range []int{1, 1000} {
		s := newSorter(t.TempDir(), 4, 100*8)
		for i := range n {
			if err := s.add([]byte{byte(i >> 8), byte(i), 0, 0}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.each(func([]byte) error { return want }); !errors.Is(err, want) {
			t.Errorf("got %v", err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSorterWithoutRoom(t *testing.T) {
	s := newSorter("/nowhere/at/all", 4, 8)
	for i := range 3 {
		if err := s.add([]byte{byte(i), 0, 0, 0}); err != nil {
			return
		}
	}
	t.Error("sorted without a directory for the file")
}
