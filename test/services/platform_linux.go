package services

import "syscall"

// childAttributes puts a server into its own process group, so that a Ctrl-C
// meant for the daemon does not reach it, and ends it with its parent.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
