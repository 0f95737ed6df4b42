package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ModuleRoot is the folder of go.mod, wherever in the module the program was
// started.
func ModuleRoot(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find go.mod: %w", err)
	}
	path := strings.TrimSpace(string(output))
	if path == "" || path == os.DevNull {
		return "", errors.New("find go.mod: start this inside the repository")
	}
	return filepath.Dir(path), nil
}

// Build builds the daemon as `make build` does, into dir, and returns the binary's
// path.
func Build(ctx context.Context, root, dir string) (string, error) {
	path := filepath.Join(dir, "fhir-cdc")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "grpcnotrace,nethttpomithttp2", "-ldflags", "-s -w", "-o", path, "./cmd/fhir-cdc")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("build fhir-cdc: %w\n%s", err, output)
	}
	return path, nil
}
