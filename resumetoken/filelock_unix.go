//go:build unix

package resumetoken

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// openLock opens the lock file, and refuses a link: anybody who may write to the folder
// could make one, and this process would lock and overwrite another file. The error is
// os.ErrNotExist if the file does not exist and flags lack os.O_CREATE.
func openLock(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|flags, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a link; remove it, if nobody needs it", path)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.Mode().IsRegular() || ok && stat.Nlink > 1 {
		return nil, errors.Join(fmt.Errorf("%s is no file of its own, but a link or a device; remove it, if nobody needs it", path), file.Close())
	}
	return file, nil
}

// lockFile takes an exclusive lock that ends with the open file, hence with the
// process. It does not wait: the error is ErrFenced if another process holds the lock.
func lockFile(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("the file is in use by another process: %w", ErrFenced)
	}
	return err
}
