package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
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

//nolint:gochecknoglobals // one build serves all tests of a process; Main removes it.
var built build

// Build returns the path of the daemon's binary, built from the sources as a
// release is: without cgo. It is built once in a test process; packages that use
// it call Main from TestMain, which removes it.
func Build(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(EnvBinary); path != "" {
		return path
	}
	built.once.Do(func() { built.path, built.err = built.run() })
	if built.err != nil {
		t.Fatalf("build the daemon: %v", built.err)
	}
	return built.path
}

// Main runs the tests of a package and removes what Build has left. It returns
// the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, "remove the built daemon:", err)
		}
	}
	return code
}

func (b *build) run() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if b.dir, err = os.MkdirTemp("", "fhir-cdc-build-"); err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, "fhir-cdc")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/fhir-cdc")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, output)
	}
	return path, nil
}

// moduleRoot is the folder of go.mod, whichever package's folder the test runs in.
func moduleRoot() (string, error) {
	output, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find go.mod: %w", err)
	}
	path := strings.TrimSpace(string(output))
	if path == "" || path == os.DevNull {
		return "", errors.New("not inside the module")
	}
	return filepath.Dir(path), nil
}
