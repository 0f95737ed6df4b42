package resumetoken

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
)

// A process with the streams of before cannot go on from where it was, nor can it
// begin a stream that it had not begun.
func TestHandoverShutsOut(t *testing.T) {
	layouts := streamsOf()
	file := NewFile(filepath.Join(t.TempDir(), "positions.json"), "one")
	open := func(stream string) (Keeper, error) { return file.Stream(stream), nil }
	old := NewHandover(layouts[1], layouts[0], open, zap.NewNop())
	running := file.Stream("main")
	p, layout, err := old.Acquire(t.Context(), "main", running.Acquire)
	if !errors.Is(err, ErrNone) {
		t.Fatal(p, err)
	}
	at := position(t, "main", 1000)
	at.Layout = layout
	mustSave(t, running, at)

	standby := NewHandover(layouts[1], layouts[0], open, zap.NewNop())
	if err := standby.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	new := NewHandover(layouts[4], layouts[0], open, zap.NewNop())
	one := file.Stream("one")
	if p, _, err = new.Acquire(t.Context(), "one", one.Acquire); err != nil || p.ClusterTime.T != 1000 {
		t.Fatalf("the new stream goes on at %v, %v", p.ClusterTime, err)
	}
	if err := running.Save(t.Context(), position(t, "main", 1001)); !errors.Is(err, ErrFenced) {
		t.Errorf("the old stream saves: %v", err)
	}
	for _, stream := range []string{"main", "hot"} {
		p, err := file.Stream(stream).Acquire(t.Context())
		if err != nil || p.HandedTo == 0 {
			t.Errorf("stream %s is not sealed: %+v, %v", stream, p, err)
		}
	}
	// A process that ran with the streams of before, or stood by for them, leaves the new
	// ones alone.
	again := file.Stream("hot")
	if _, _, err := old.Acquire(t.Context(), "hot", again.Acquire); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "one, two") {
		t.Errorf("the old stream is acquired again: %v, want %v", err, ErrChanged)
	}
	if _, _, err := standby.Acquire(t.Context(), "hot", again.Acquire); !errors.Is(err, ErrChanged) {
		t.Errorf("the old stream is acquired by a stand-by: %v, want %v", err, ErrChanged)
	}
	mustSave(t, one, p)
	// Back again by one that is started anew: the new streams are shut out in turn, and
	// nothing is behind.
	old = NewHandover(layouts[1], layouts[0], open, zap.NewNop())
	if p, _, err := old.Acquire(t.Context(), "hot", again.Acquire); err != nil || p.ClusterTime.T != 1000 {
		t.Errorf("the old stream goes on at %v, %v", p.ClusterTime, err)
	}
	if err := one.Save(t.Context(), position(t, "one", 1001)); !errors.Is(err, ErrFenced) {
		t.Errorf("the new stream saves: %v", err)
	}
}

// A position with what other streams had published survives being stored.
func TestPublishedIsStored(t *testing.T) {
	p := position(t, "main", 1000)
	p.Layout, p.HandedTo = "l", 3
	p.Published = []Published{{
		Coverage: Coverage{Stream: "hot", Cluster: "main", Collections: []string{"fhir.a"}, Slice: 1, Of: 2},
		Token:    token(t, "8200000BB800000001"), ClusterTime: bson.Timestamp{T: 3000, I: 1},
	}}
	data, err := Encode(p, "me")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"v":2`) {
		t.Errorf("an older program would misread %s", data)
	}
	got, err := Decode(data)
	if diff := cmp.Diff(p, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// beforeSave does something before a position is saved.
type beforeSave struct {
	Keeper
	do func()
}

func (b beforeSave) Save(ctx context.Context, p Position) error {
	b.do()
	return b.Keeper.Save(ctx, p)
}

// A process that changes the streams and is slow does not come to the end of it any
// more when one with the streams of before has gone on meanwhile; when it begins again
// it finds what that one did.
func TestHandoverOvertaken(t *testing.T) {
	layouts := streamsOf()
	file := NewFile(filepath.Join(t.TempDir(), "positions.json"), "one")
	plain := func(stream string) (Keeper, error) { return file.Stream(stream), nil }
	old := NewHandover(layouts[0], layouts[0], plain, zap.NewNop())
	main := file.Stream("main")
	if _, _, err := old.Acquire(t.Context(), "main", main.Acquire); !errors.Is(err, ErrNone) {
		t.Fatal(err)
	}
	mustSave(t, main, position(t, "main", 1000))

	overtaken := false
	slow := NewHandover(layouts[4], layouts[0], func(stream string) (Keeper, error) {
		store := file.Stream(stream)
		if stream != LayoutStream || overtaken {
			return store, nil
		}
		return beforeSave{store, func() {
			overtaken = true
			p, _, err := old.Acquire(t.Context(), "main", main.Acquire)
			if err != nil || p.ClusterTime.T != 1000 {
				t.Errorf("the old stream goes on at %v, %v", p.ClusterTime, err)
			}
			mustSave(t, main, position(t, "main", 2000))
		}}, nil
	}, zap.NewNop())
	one := file.Stream("one")
	_, _, err := slow.Acquire(t.Context(), "one", one.Acquire)
	if err == nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "at the same time") {
		t.Fatalf("the slow process: %v; want an error to try again after", err)
	}
	p, _, err := slow.Acquire(t.Context(), "one", one.Acquire)
	if err != nil || p.ClusterTime.T != 2000 {
		t.Errorf("the slow process goes on at %v, %v", p.ClusterTime, err)
	}
}
