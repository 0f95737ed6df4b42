package download

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lockInterval is the time between two looks at a lock that another process has.
const lockInterval = 50 * time.Millisecond

// CacheDir is where downloads are kept over runs, outside the repository.
func CacheDir() string {
	if dir := os.Getenv("FHIR_CDC_CACHE"); dir != "" {
		return dir
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "fhir-cdc")
	}
	return filepath.Join(os.TempDir(), "fhir-cdc-cache")
}

// Install returns the cache folder called name, after filling it by fill if it
// is not there or does not pass check. Test binaries run side by side: one
// downloads, the others wait. The folder appears under its name only when it is
// complete.
func Install(ctx context.Context, name string, check func(dir string) error, fill func(ctx context.Context, dir string) error) (string, error) {
	cache := CacheDir()
	dir := filepath.Join(cache, name)
	if check(dir) == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if check(dir) == nil { // filled by another process meanwhile
		return dir, nil
	}
	temp, err := os.MkdirTemp(cache, name+".*")
	if err != nil {
		return "", fmt.Errorf("make folder for download: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := fill(ctx, temp); err != nil {
		return "", err
	}
	if err := check(temp); err != nil {
		return "", fmt.Errorf("check download: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("replace %s: %w", name, err)
	}
	if err := os.Rename(temp, dir); err != nil {
		return "", fmt.Errorf("keep download: %w", err)
	}
	return dir, nil
}

// lockFile waits until this process has the lock of the file.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	ticker := time.NewTicker(lockInterval)
	defer ticker.Stop()
	for {
		locked, err := TryLock(f)
		if err == nil && !locked {
			select {
			case <-ctx.Done():
				err = context.Cause(ctx)
			case <-ticker.C:
				continue
			}
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("wait for lock %s: %w", path, err)
		}
		return func() { f.Close() }, nil
	}
}
