package lookup

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

func TestSeen(t *testing.T) {
	s := NewSeen(3)
	steps := []struct {
		id    string
		isNew bool
	}{
		{"a", true},
		{"a", false},
		{"b", true},
		{"c", true},
		{"a", false},
		{"d", true}, // a is the oldest and goes
		{"b", false},
		{"a", true}, // b goes
		{"c", false},
		{"d", false},
		{"b", true}, // c goes
		{"", true},
		{"", true},
		{"c", true},
	}
	for i, step := range steps {
		if got := s.Add(step.id); got != step.isNew {
			t.Errorf("step %d: Add(%q) = %v", i, step.id, got)
		}
	}
	if got := len(s.ids); got != 3 {
		t.Errorf("%d ids", got)
	}
}

func TestSeenHoldsAtLeastOne(t *testing.T) {
	s := NewSeen(0)
	if !s.Add("a") || s.Add("a") || !s.Add("b") || !s.Add("a") {
		t.Error("a set of size 0 does not hold one id")
	}
}

func TestSeenByManyGoroutines(t *testing.T) {
	s := NewSeen(1000)
	var fresh atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				if s.Add(strconv.Itoa(i)) {
					fresh.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := fresh.Load(); got != 1000 {
		t.Errorf("%d ids were new", got)
	}
}
