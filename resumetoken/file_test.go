package resumetoken

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileKeepsOtherProcessesOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "positions.json")
	// Two File values have separate locks, as two processes have.
	mine, theirs := NewFile(path, "one"), NewFile(path, "two")
	a, b, other := mine.Stream("a"), mine.Stream("b"), theirs.Stream("c")
	mustBeNew(t, a)
	mustBeNew(t, b)
	if _, err := other.Acquire(t.Context()); !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("Acquire beside another process: %v", err)
	}
	closeStore(t, a)
	if _, err := other.Acquire(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("Acquire while the other process has one stream left: %v", err)
	}
	mustSave(t, b, position(t, "b", 1000))
	closeStore(t, b)
	mustBeNew(t, other)
	mustSave(t, other, position(t, "c", 1000))
	closeStore(t, other)
	if got := mustAcquire(t, b); got.ClusterTime.T != 1000 {
		t.Errorf("the other process's Save lost stream b: %v", got)
	}
	closeStore(t, b)
}

func TestFileRefusesWhatItCannotRead(t *testing.T) {
	for _, tc := range []struct{ name, content, want string }{
		{"garbage", `{"v":1,"positions":{"a":`, "read position file"},
		{"empty", ``, "read position file"},
		{"a newer format", `{"v":7,"positions":{}}`, "upgrade"},
		{"something else", `{"name":"x"}`, "fhir-cdc has not written it"},
		{"a newer position", `{"v":1,"positions":{"a":{"v":9}}}`, "upgrade"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "positions.json")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			s := NewFile(path, "w").Stream("a")
			defer closeStore(t, s)
			_, err := s.Acquire(t.Context())
			if err == nil || errors.Is(err, ErrNone) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Acquire: %v; want an error with %q", err, tc.want)
			}
		})
	}
}

func TestFileFailedSaveChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "positions.json")
	s := NewFile(path, "w").Stream("a")
	defer closeStore(t, s)
	mustBeNew(t, s)
	mustSave(t, s, position(t, "a", 1000))
	// A folder in the new file's place makes the next write fail, for root too.
	if err := os.Mkdir(path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), position(t, "a", 2000)); err == nil {
		t.Fatal("Save succeeded without writing")
	}
	if got := mustAcquire(t, s); got.ClusterTime.T != 1000 {
		t.Errorf("after a failed Save the position is %v", got.ClusterTime)
	}
	if err := os.Remove(path + ".tmp"); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, position(t, "a", 3000))
}

func TestFileNeedsItsFolder(t *testing.T) {
	s := NewFile(filepath.Join(t.TempDir(), "missing", "positions.json"), "w").Stream("a")
	if _, err := s.Acquire(t.Context()); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Acquire: %v; want an error", err)
	}
}
