package layout

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// A process with the streams of before cannot go on from where it was, nor can it
// begin a stream that it had not begun.
func TestHandoverShutsOut(t *testing.T) {
	layouts := streamsOf()
	file := resumetoken.NewFile(filepath.Join(t.TempDir(), "positions.json"), "one")
	open := func(stream string) (resumetoken.Keeper, error) { return file.Stream(stream), nil }
	old := NewHandover(layouts[1], layouts[0], open, zap.NewNop())
	running := file.Stream("main")
	p, layout, err := old.Acquire(t.Context(), "main", running.Acquire)
	if !errors.Is(err, resumetoken.ErrNone) {
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
	if err := running.Save(t.Context(), position(t, "main", 1001)); !errors.Is(err, resumetoken.ErrFenced) {
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
	if err := one.Save(t.Context(), position(t, "one", 1001)); !errors.Is(err, resumetoken.ErrFenced) {
		t.Errorf("the new stream saves: %v", err)
	}
}

// beforeSave does something before a position is saved.
type beforeSave struct {
	resumetoken.Keeper
	do func()
}

func (b beforeSave) Save(ctx context.Context, p resumetoken.Position) error {
	b.do()
	return b.Keeper.Save(ctx, p)
}

// A process that changes the streams and is slow does not come to the end of it any
// more when one with the streams of before has gone on meanwhile; when it begins again
// it finds what that one did.
func TestHandoverOvertaken(t *testing.T) {
	layouts := streamsOf()
	file := resumetoken.NewFile(filepath.Join(t.TempDir(), "positions.json"), "one")
	plain := func(stream string) (resumetoken.Keeper, error) { return file.Stream(stream), nil }
	old := NewHandover(layouts[0], layouts[0], plain, zap.NewNop())
	main := file.Stream("main")
	if _, _, err := old.Acquire(t.Context(), "main", main.Acquire); !errors.Is(err, resumetoken.ErrNone) {
		t.Fatal(err)
	}
	mustSave(t, main, position(t, "main", 1000))

	overtaken := false
	slow := NewHandover(layouts[4], layouts[0], func(stream string) (resumetoken.Keeper, error) {
		store := file.Stream(stream)
		if stream != name || overtaken {
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
	if err == nil || errors.Is(err, resumetoken.ErrFenced) || errors.Is(err, resumetoken.ErrNone) || !strings.Contains(err.Error(), "at the same time") {
		t.Fatalf("the slow process: %v; want an error to try again after", err)
	}
	p, _, err := slow.Acquire(t.Context(), "one", one.Acquire)
	if err != nil || p.ClusterTime.T != 2000 {
		t.Errorf("the slow process goes on at %v, %v", p.ClusterTime, err)
	}
}
