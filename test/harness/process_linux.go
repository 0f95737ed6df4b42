package harness

import "syscall"

// childAttributes puts the daemon into a process group of its own, so that what
// it leaves behind can be found, and ends it with the test process.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// leftover tells whether a process of the group is still there.
func leftover(group int) bool { return syscall.Kill(-group, 0) == nil }
