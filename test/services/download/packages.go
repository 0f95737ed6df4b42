package download

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// Packages returns a folder of the cache in which a package client has installed what the
// files list: a requirements.txt, a pom.xml, a package.json and its lock. The client runs in
// that folder, beside copies of the files, the first time and when they have changed.
func Packages(ctx context.Context, name string, files []string, client ...string) (string, error) {
	digest := sha256.New()
	contents := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		contents[filepath.Base(file)] = text
		fmt.Fprintf(digest, "%s %d\n%s", filepath.Base(file), len(text), text)
	}
	for _, argument := range client {
		fmt.Fprintf(digest, "%q", argument)
	}
	// The folder has its name only when it is complete.
	there := func(dir string) error { _, err := os.Stat(dir); return err }
	dir, err := Install(ctx, name+"-"+hex.EncodeToString(digest.Sum(nil))[:12], there, func(ctx context.Context, dir string) error {
		for base, text := range contents {
			if err := os.WriteFile(filepath.Join(dir, base), text, 0o600); err != nil {
				return err
			}
		}
		return runTool(ctx, dir, client...)
	})
	if err != nil {
		return "", fmt.Errorf("get the packages of %s: %w", name, err)
	}
	return dir, nil
}
