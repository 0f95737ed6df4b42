//go:build !unix

package resumetoken

import (
	"errors"
	"os"
)

func openLock(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|flags, 0o600)
}

// lockFile refuses: without a lock two processes would overwrite each other's
// positions.
func lockFile(*os.File) error {
	return errors.New("this platform has no file locks that fhir-cdc knows; use another checkpoint.store")
}
