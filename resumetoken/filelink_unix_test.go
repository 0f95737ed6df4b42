//go:build unix

package resumetoken

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFileFollowsNoLinks: whoever may write to the folder can make a link of a name that
// the store uses. The file behind it stays as it is.
func TestFileFollowsNoLinks(t *testing.T) {
	const theirs = "somebody else's"
	for name, link := range map[string]func(from, to string) error{
		"symbolic": os.Symlink, "hard": os.Link, "none of a file": func(from, to string) error {
			if filepath.Ext(to) == ".tmp" {
				return os.Symlink(from, to)
			}
			return syscall.Mkfifo(to, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path, victim := filepath.Join(folder, "positions.json"), filepath.Join(folder, "victim")
			if err := errors.Join(os.WriteFile(victim, []byte(theirs), 0o600), link(victim, path+".tmp"), link(victim, path+".lock")); err != nil {
				t.Fatal(err)
			}
			s := NewFile(path, "w").Stream("a")
			if _, err := s.Acquire(t.Context()); err == nil || errors.Is(err, ErrNone) {
				t.Errorf("Acquire with a link for a lock: %v; want an error", err)
			}
			if _, err := s.Inspect(t.Context()); err == nil {
				t.Error("Inspect with a link for a lock: no error")
			}
			if err := os.Remove(path + ".lock"); err != nil {
				t.Fatal(err)
			}
			mustBeNew(t, s)
			mustSave(t, s, position(t, "a", 1000))
			closeStore(t, s)
			if got, err := os.ReadFile(victim); err != nil || string(got) != theirs {
				t.Errorf("the file behind the links holds %q, %v", got, err)
			}
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				t.Errorf("the positions are no file: %v, %v", info, err)
			}
		})
	}
}
