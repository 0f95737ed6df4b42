//go:build !unix

package resumetoken

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock two processes would overwrite each other's
// positions.
func lockFile(*os.File) error {
	return errors.New("this platform has no file locks that fhir-cdc knows; use another checkpoint.store")
}
