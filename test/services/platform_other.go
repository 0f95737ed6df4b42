//go:build !linux

package services

import (
	"os"
	"syscall"
)

// Servers from packages run on Linux only (see serverPackages), so here nothing
// starts processes; containers still reserve ports, without a lock.

func childAttributes() *syscall.SysProcAttr { return nil }

func tryLock(*os.File) (bool, error) { return true, nil }
