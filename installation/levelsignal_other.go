//go:build !unix

package installation

import "os"

// notifyLevel does nothing: there is no signal for it here.
func notifyLevel(chan<- os.Signal) bool { return false }
