package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// EnvBinary names a daemon to test instead of the one that is built from the
// sources: a release, or a build with the race detector.
const EnvBinary = "FHIR_CDC_TEST_BINARY"

// build is what Build has built for the tests of this process.
type build struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// FaultPoints is the build tag of a daemon that kills itself where the variable
// FAULT_POINT says: see installation/faultpoint.go.
const FaultPoints = "faultpoints"

//nolint:gochecknoglobals // one build serves all tests of a process; Main removes it.
var built, builtFaultPoints build

// Build returns the path of the daemon's binary, built from the sources as a
// release is: without cgo. It is built once in a test process; packages that use
// it call Main from TestMain, which removes it. tag is a build tag, or empty.
func Build(t testing.TB, tag string) string {
	t.Helper()
	services.Needs(t, "the built daemon")
	b := &builtFaultPoints
	if tag == "" {
		b = &built
		if path := os.Getenv(EnvBinary); path != "" {
			return path
		}
	}
	b.once.Do(func() { b.path, b.err = b.run(tag) })
	if b.err != nil {
		t.Fatalf("build the daemon: %v", b.err)
	}
	return b.path
}

// Main runs the tests of a package, ends the servers that they shared and removes what
// Build has left. It returns the exit code.
func Main(m *testing.M) int {
	// Tests that hold all that was written and read would collect garbage a fifth of their time.
	debug.SetGCPercent(400)
	code := services.Main(m)
	for _, b := range []*build{&built, &builtFaultPoints} {
		if b.dir == "" {
			continue
		}
		if err := os.RemoveAll(b.dir); err != nil {
			fmt.Fprintln(os.Stderr, "remove the built daemon:", err)
		}
	}
	return code
}

func (b *build) run(tag string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if b.dir, err = os.MkdirTemp("", "fhir-cdc-build-"); err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, "fhir-cdc")
	// With the flags of make build, so that what that has compiled is not compiled again.
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace,nethttpomithttp2,"+tag, "-ldflags", "-s -w", "-o", path, "./cmd/fhir-cdc")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, output)
	}
	return path, nil
}

// moduleRoot is the folder of the daemon's module, whichever package's folder the test runs
// in, and also if that is of another module in the same repository.
func moduleRoot() (string, error) {
	output, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/fhir-cdc/fhir-cdc").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}
