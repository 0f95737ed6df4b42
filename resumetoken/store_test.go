package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// home makes stores of one kind that share what they keep; each store acts for
// another process.
type home func(t *testing.T, stream, instance string) Store

func position(t testing.TB, stream string, clusterTime uint32) Position {
	t.Helper()
	return Position{
		Stream:      stream,
		Token:       token(t, fmt.Sprintf("82%08X00000001", clusterTime)),
		ClusterTime: bson.Timestamp{T: clusterTime, I: 1},
		WallTime:    time.Unix(int64(clusterTime), 5e6).UTC(),
		Fingerprint: "pipeline-1",
		Paused:      clusterTime%2 == 1, // both come back as they were
	}
}

func mustAcquire(t *testing.T, s Store) Position {
	t.Helper()
	p, err := s.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustBeNew(t *testing.T, s Store) {
	t.Helper()
	if p, err := s.Acquire(t.Context()); !errors.Is(err, ErrNone) {
		t.Fatalf("Acquire of a new stream: %v, %v; want ErrNone", p, err)
	}
}

func mustSave(t *testing.T, s Store, p Position) {
	t.Helper()
	if err := s.Save(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t *testing.T, s Store) {
	t.Helper()
	if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// contract is what every store promises. Each part uses streams of its own, so
// that all can share one home.
func contract(t *testing.T, open home) {
	t.Run("a new stream has no position", func(t *testing.T) {
		s := open(t, "new", "one")
		mustBeNew(t, s)
		mustBeNew(t, s)
	})
	t.Run("the last saved position is acquired", func(t *testing.T) {
		s := open(t, "last", "one")
		mustBeNew(t, s)
		mustSave(t, s, position(t, "last", 1000))
		mustSave(t, s, position(t, "last", 2000))
		want := position(t, "last", 2000)
		want.Window = &Window{Start: 1990, End: 2000, Unfinished: true, Part: 1, After: "patient_data_change/a"}
		mustSave(t, s, want)
		if diff := cmp.Diff(want, mustAcquire(t, s)); diff != "" {
			t.Error("the same process:", diff)
		}
		closeStore(t, s)
		if diff := cmp.Diff(want, mustAcquire(t, open(t, "last", "two"))); diff != "" {
			t.Error("the next process:", diff)
		}
	})
	t.Run("streams do not see each other", func(t *testing.T) {
		a, b := open(t, "stream-a", "one"), open(t, "stream-b", "one")
		mustBeNew(t, a)
		mustBeNew(t, b)
		mustSave(t, a, position(t, "stream-a", 1000))
		mustSave(t, b, position(t, "stream-b", 2000))
		if got := mustAcquire(t, a); got.ClusterTime.T != 1000 {
			t.Errorf("stream-a is at %v", got.ClusterTime)
		}
		if got := mustAcquire(t, b); got.ClusterTime.T != 2000 {
			t.Errorf("stream-b is at %v", got.ClusterTime)
		}
	})
	t.Run("a position never goes backwards", func(t *testing.T) {
		s := open(t, "backwards", "one")
		mustBeNew(t, s)
		mustSave(t, s, position(t, "backwards", 2000))
		if err := s.Save(t.Context(), position(t, "backwards", 1999)); !errors.Is(err, ErrBackwards) {
			t.Errorf("Save of an earlier position: %v; want ErrBackwards", err)
		}
		same := position(t, "backwards", 2000)
		same.Fingerprint = "pipeline-2"
		mustSave(t, s, same)
		if got := mustAcquire(t, s); got.Fingerprint != "pipeline-2" {
			t.Errorf("the position of the same time was not stored: %+v", got)
		}
		if err := s.Save(t.Context(), position(t, "backwards", 1)); !errors.Is(err, ErrBackwards) {
			t.Errorf("Save of an earlier position after Acquire: %v; want ErrBackwards", err)
		}
	})
	t.Run("a repair is kept with its cursor, and gone when it is over", func(t *testing.T) { keepsRepair(t, open) })
	t.Run("nothing is saved before Acquire and after Close", func(t *testing.T) {
		s := open(t, "unowned", "one")
		if err := s.Save(t.Context(), position(t, "unowned", 1000)); !errors.Is(err, errNotAcquired) {
			t.Errorf("Save before Acquire: %v", err)
		}
		mustBeNew(t, s)
		closeStore(t, s)
		closeStore(t, s)
		if err := s.Save(t.Context(), position(t, "unowned", 1000)); !errors.Is(err, errNotAcquired) {
			t.Errorf("Save after Close: %v", err)
		}
		mustBeNew(t, s)
	})
	t.Run("a position without a token is refused", func(t *testing.T) {
		s := open(t, "empty", "one")
		mustBeNew(t, s)
		if err := s.Save(t.Context(), Position{Stream: "empty"}); err == nil {
			t.Error("it was saved")
		}
		mustBeNew(t, s)
	})
	t.Run("a second owner shuts out the first", func(t *testing.T) {
		first, second := open(t, "owned", "one"), open(t, "owned", "two")
		mustBeNew(t, first)
		mustSave(t, first, position(t, "owned", 1000))
		if got := mustAcquire(t, second); got.ClusterTime.T != 1000 {
			t.Errorf("the second owner starts at %v", got.ClusterTime)
		}
		if err := first.Save(t.Context(), position(t, "owned", 3000)); !errors.Is(err, ErrFenced) {
			t.Errorf("Save by the first owner: %v; want ErrFenced", err)
		}
		mustSave(t, second, position(t, "owned", 2000))
		if got := mustAcquire(t, second); got.ClusterTime.T != 2000 {
			t.Errorf("the position is %v", got.ClusterTime)
		}
	})
	t.Run("an owner can come back", func(t *testing.T) {
		first, second := open(t, "back", "one"), open(t, "back", "two")
		mustBeNew(t, first)
		mustBeNew(t, second)
		mustBeNew(t, first)
		mustSave(t, first, position(t, "back", 1000))
		if err := second.Save(t.Context(), position(t, "back", 2000)); !errors.Is(err, ErrFenced) {
			t.Errorf("Save by the one in between: %v; want ErrFenced", err)
		}
	})
}

// keeping is what every store promises to an operator's commands.
func keeping(t *testing.T, open home) {
	keeper := func(t *testing.T, stream, instance string) Keeper {
		k, ok := open(t, stream, instance).(Keeper)
		if !ok {
			t.Fatal("the store is no Keeper")
		}
		return k
	}
	inspect := func(t *testing.T, k Keeper) Stored {
		t.Helper()
		stored, err := k.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return stored
	}
	t.Run("an unknown stream has nothing", func(t *testing.T) {
		k := keeper(t, "unknown", "one")
		if got := inspect(t, k); !got.Position.IsZero() || !got.Saved.IsZero() {
			t.Errorf("Inspect: %+v", got)
		}
		if hours, err := k.History(t.Context()); err != nil || len(hours) > 0 {
			t.Errorf("History: %v, %v", hours, err)
		}
	})
	t.Run("looking changes nothing", func(t *testing.T) {
		owner, looker := keeper(t, "looked-at", "one"), keeper(t, "looked-at", "two")
		mustBeNew(t, owner)
		mustSave(t, owner, position(t, "looked-at", 1000))
		got := inspect(t, looker)
		if diff := cmp.Diff(position(t, "looked-at", 1000), got.Position); diff != "" {
			t.Error(diff)
		}
		if age := got.Now.Sub(got.Saved); age < -time.Minute || age > time.Minute {
			t.Errorf("saved at %v, now %v", got.Saved, got.Now)
		}
		if got.Owner.Instance == "" || got.Owner.Seen.IsZero() || !got.Owner.Stopped.IsZero() {
			t.Errorf("the owner is %+v", got.Owner)
		}
		mustSave(t, owner, position(t, "looked-at", 2000))
	})
	t.Run("an end in order is noted, a new owner takes the note away", func(t *testing.T) {
		s := keeper(t, "ended", "one")
		mustBeNew(t, s)
		mustSave(t, s, position(t, "ended", 1000))
		closeStore(t, s)
		if got := inspect(t, s); got.Held || got.Owner.Since.IsZero() == got.Owner.Stopped.After(got.Owner.Since) {
			t.Errorf("after Close: %+v", got)
		}
		mustAcquire(t, s)
		if got := inspect(t, s); !got.Owner.Stopped.IsZero() {
			t.Errorf("after Acquire: %+v", got.Owner)
		}
	})
	t.Run("an operator may set it back", func(t *testing.T) {
		s := keeper(t, "reset", "one")
		if err := s.Reset(t.Context(), position(t, "reset", 1)); !errors.Is(err, errNotAcquired) {
			t.Errorf("Reset before Acquire: %v", err)
		}
		mustBeNew(t, s)
		mustSave(t, s, position(t, "reset", 2000))
		if err := s.Reset(t.Context(), position(t, "reset", 1000)); err != nil {
			t.Fatal(err)
		}
		if got := mustAcquire(t, s); got.ClusterTime.T != 1000 {
			t.Errorf("the position is %v", got.ClusterTime)
		}
		mustSave(t, s, position(t, "reset", 1001))
	})
	t.Run("the first position of each hour is kept", func(t *testing.T) {
		s := keeper(t, "hours", "one")
		mustBeNew(t, s)
		const base = 1763886848
		for _, seconds := range []uint32{0, 1, 3600, 3601, 30 * 3600, 49 * 3600} {
			mustSave(t, s, position(t, "hours", base+seconds))
		}
		closeStore(t, s)
		hours, err := s.History(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []uint32
		for _, p := range hours {
			got = append(got, p.ClusterTime.T-base)
		}
		// Kafka forgets by age, the others by number.
		if len(got) == 4 {
			got = got[1:]
		}
		if len(got) == 3 {
			got = got[1:]
		}
		if diff := cmp.Diff([]uint32{30 * 3600, 49 * 3600}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestFileNamesItsHolder: the lock says who has the file, before anything is saved.
func TestFileNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "positions.json")
	holder, looker := NewFile(path, "holder").Stream("main"), NewFile(path, "looker").Stream("main")
	mustBeNew(t, holder)
	if got, err := looker.Inspect(t.Context()); err != nil || !got.Held || got.Owner.Instance != "holder" {
		t.Errorf("Inspect: %+v, %v", got, err)
	}
	closeStore(t, holder)
	if got, err := looker.Inspect(t.Context()); err != nil || got.Held {
		t.Errorf("Inspect after Close: %+v, %v", got, err)
	}
}

func TestFileContract(t *testing.T) {
	file := NewFile(filepath.Join(t.TempDir(), "positions.json"), "test")
	open := func(t *testing.T, stream, _ string) Store {
		s := file.Stream(stream)
		t.Cleanup(func() { closeStore(t, s) })
		return s
	}
	contract(t, open)
	keeping(t, open)
}
