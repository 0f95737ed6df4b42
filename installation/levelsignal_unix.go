//go:build unix

package installation

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyLevel has SIGUSR1, which asks for another log level, come to a channel.
func notifyLevel(signals chan<- os.Signal) bool {
	signal.Notify(signals, syscall.SIGUSR1)
	return true
}
