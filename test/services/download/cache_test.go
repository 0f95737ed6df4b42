package download

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// complete is the check of a folder that must hold one file.
func complete(dir string) error {
	_, err := os.Stat(filepath.Join(dir, "file"))
	return err
}

func writeFile(_ context.Context, dir string) error {
	return os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
}

func TestInstallFillsOnce(t *testing.T) {
	t.Setenv("FHIR_CDC_CACHE", t.TempDir())
	var filled atomic.Int32
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			dir, err := Install(t.Context(), "thing", complete, func(ctx context.Context, dir string) error {
				filled.Add(1)
				return writeFile(ctx, dir)
			})
			return errors.Join(err, complete(dir))
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := filled.Load(); n != 1 {
		t.Fatalf("filled %d times, want once", n)
	}
}

func TestInstallReplacesWhatDoesNotPass(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("FHIR_CDC_CACHE", cache)
	if err := os.MkdirAll(filepath.Join(cache, "thing", "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := Install(t.Context(), "thing", complete, writeFile)
	if err = errors.Join(err, complete(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); !os.IsNotExist(err) {
		t.Errorf("what was there before is still there (%v)", err)
	}
}

func TestInstallLeavesNothingAfterAFailure(t *testing.T) {
	cut := errors.New("connection lost")
	for name, fill := range map[string]func(context.Context, string) error{
		"download fails":      func(ctx context.Context, dir string) error { return errors.Join(writeFile(ctx, dir), cut) },
		"download is damaged": func(context.Context, string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			t.Setenv("FHIR_CDC_CACHE", cache)
			if _, err := Install(t.Context(), "thing", complete, fill); err == nil {
				t.Fatal("no error")
			}
			left, err := filepath.Glob(filepath.Join(cache, "thing*"))
			if err != nil || len(left) != 1 || filepath.Base(left[0]) != "thing.lock" {
				t.Fatalf("left %v (%v), want the lock only", left, err)
			}
		})
	}
}
