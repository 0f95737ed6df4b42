package watcher

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestChunks(t *testing.T) {
	size := len(change(t, "1", 100))
	idle := seen{token: "0"} // The empty chunk that a stream is opened with.
	for _, c := range []struct {
		name   string
		limits Limits
		steps  []step
		want   []seen
	}{
		{
			"a batch is a chunk, its token the post-batch token",
			Limits{10, 1 << 20},
			[]step{{changes: []string{"1", "2", "3"}, token: "4"}},
			[]seen{idle, {[]string{"1", "2", "3"}, "4"}},
		},
		{
			"two batches are two chunks",
			Limits{10, 1 << 20},
			[]step{{changes: []string{"1"}, token: "2"}, {changes: []string{"3"}, token: "3"}},
			[]seen{idle, {[]string{"1"}, "2"}, {[]string{"3"}, "3"}},
		},
		{
			"records bound a chunk, its token is the last change's",
			Limits{2, 1 << 20},
			[]step{{changes: []string{"1", "2", "3", "4", "5"}, token: "6"}},
			[]seen{idle, {[]string{"1", "2"}, "2"}, {[]string{"3", "4"}, "4"}, {[]string{"5"}, "6"}},
		},
		{
			"bytes bound a chunk, the change that passes them included",
			Limits{10, size + 1},
			[]step{{changes: []string{"1", "2", "3"}, pad: 100, token: "4"}},
			[]seen{idle, {[]string{"1", "2"}, "2"}, {[]string{"3"}, "4"}},
		},
		{
			"exactly the bytes",
			Limits{10, 2 * size},
			[]step{{changes: []string{"1", "2", "3"}, pad: 100, token: "4"}},
			[]seen{idle, {[]string{"1", "2"}, "2"}, {[]string{"3"}, "4"}},
		},
		{
			"a change is taken whatever its size",
			Limits{10, 1},
			[]step{{changes: []string{"1", "2"}, pad: 1 << 20, token: "3"}},
			[]seen{idle, {[]string{"1"}, "1"}, {[]string{"2"}, "3"}},
		},
		{
			"an idle stream's token moves",
			Limits{10, 1 << 20},
			[]step{{token: "1"}, {}, {token: "2"}, {changes: []string{"3"}, token: "4"}, {token: "5"}},
			[]seen{idle, {nil, "1"}, {nil, "1"}, {nil, "2"}, {[]string{"3"}, "4"}, {nil, "5"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _ := scripted(t, newScript(t, "0", c.steps...))
				w.opts.Limits = c.limits
				var got []seen
				for _, chunk := range runUntil(t, w, len(c.want)) { // All are over by now: copies have survived.
					got = append(got, see(chunk))
					total := 0
					for _, raw := range chunk.Changes {
						total += len(raw)
					}
					if chunk.Size != total {
						t.Errorf("size %d, want %d", chunk.Size, total)
					}
				}
				if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(seen{})); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestChangesAreCopies reads changes of sizes that make the blocks they are copied
// into begin and end at many places.
func TestChangesAreCopies(t *testing.T) { synctest.Test(t, testChangesAreCopies) }

func testChangesAreCopies(t *testing.T) {
	var steps []step
	for i, pad := range []int{0, 1, 300 << 10, 100, 128 << 10, 1 << 20, 0, 5000} {
		s := step{pad: pad, token: fmt.Sprint("after ", i)}
		for j := range 40 >> (i % 4) {
			s.changes = append(s.changes, fmt.Sprintf("%d.%d", i, j))
		}
		steps = append(steps, s)
	}
	w, _ := scripted(t, newScript(t, "0", steps...))
	w.opts.Limits = Limits{Records: 7, Bytes: 1 << 30}
	last := 0
	for _, s := range steps {
		last += (len(s.changes) + 6) / 7
	}
	chunks := runUntil(t, w, last+1)
	var flat [][]byte
	for _, c := range chunks {
		for _, raw := range c.Changes {
			flat = append(flat, raw)
			_ = append(raw, "overwritten"...) // Nobody should; nothing happens if somebody does.
		}
	}
	i := 0
	for _, s := range steps {
		for _, name := range s.changes {
			if !bytes.Equal(flat[i], change(t, name, s.pad)) {
				t.Fatalf("change %s has changed", name)
			}
			i++
		}
	}
	if i != len(flat) {
		t.Errorf("%d changes, want %d", len(flat), i)
	}
}

// TestChunkDoesNotKeepTheServersReply is about memory: a token is some 100 bytes of
// a reply of up to 16 MB.
func TestChunkDoesNotKeepTheServersReply(t *testing.T) {
	s := newScript(t, "0", step{changes: []string{"1"}, token: "2"})
	if _, err := read(t.Context(), s, Limits{1, 1}); err != nil {
		t.Fatal(err)
	}
	chunk, err := read(t.Context(), s, Limits{1, 1})
	if err != nil {
		t.Fatal(err)
	}
	clear(s.token)
	clear(s.current)
	if got := see(chunk); got.token != "2" || got.changes[0] != "1" {
		t.Errorf("%+v", got)
	}
}
