package download

import (
	"errors"
	"os"
	"syscall"
)

// TryLock takes the lock of an open file, false if another process has it. The
// kernel gives it back when the file is closed or the process ends.
func TryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
