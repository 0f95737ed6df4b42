//go:build !linux

package services

import "syscall"

// Servers from packages run on Linux only, so here nothing starts processes.

func childAttributes() *syscall.SysProcAttr { return nil }
