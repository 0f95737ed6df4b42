package services

import (
	"errors"
	"os"
	"syscall"
)

// childAttributes puts a server into its own process group, so that a Ctrl-C
// meant for the daemon does not reach it, and ends it with its parent.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// tryLock takes the lock of an open file, false if another process has it. The
// kernel gives it back when the file is closed or the process ends.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
