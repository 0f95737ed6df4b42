// Package compose_test tests what a user of Docker does after git clone: the image is
// built from the Dockerfile, docker-compose.yml is started with a real engine, and
// events are read from the Kafka that came up.
//
// FHIR_CDC_TEST_DOCKER=required makes a missing engine a failure; otherwise the tests
// are skipped without one.
package compose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// envDocker says whether an engine has to be there.
	envDocker = "FHIR_CDC_TEST_DOCKER"
	required  = "required"
	// buildTimeout is for the image's build with nothing cached, and for three pulls.
	buildTimeout = 15 * time.Minute
	// stepTimeout is for anything else; only a test that fails comes near it.
	stepTimeout = 3 * time.Minute
	cleanupTime = time.Minute
)

// stack is one project of the compose file, with ports and an image name of its own.
type stack struct {
	t       *testing.T
	dir     string // a fresh clone
	project string
	env     []string
	// mongo, kafka and status are ports of this machine.
	mongo, kafka, status int
}

// newStack makes a clone, and takes away at the test's end whatever was started.
func newStack(t *testing.T) *stack {
	t.Helper()
	ports := services.PortsForTest(t, 4)
	s := &stack{t: t, dir: clone(t), mongo: ports[0], kafka: ports[1], status: ports[2]}
	s.project = fmt.Sprintf("fhir-cdc-test-%d-%d", os.Getpid(), s.mongo)
	s.env = append(os.Environ(),
		"COMPOSE_PROJECT_NAME="+s.project,
		"MONGO_HOST_PORT="+strconv.Itoa(s.mongo),
		"KAFKA_HOST_PORT="+strconv.Itoa(s.kafka),
		"STATUS_HOST_PORT="+strconv.Itoa(s.status),
		"FHIR_HOST_PORT="+strconv.Itoa(ports[3]),
	)
	// The image's name is the only thing that would be shared with other projects.
	override := fmt.Sprintf("services: {fhir-cdc: {image: %s}}\n", s.project)
	if err := os.WriteFile(filepath.Join(s.dir, "docker-compose.override.yml"), []byte(override), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// cleanUp removes everything of the project when the test ends.
func (s *stack) cleanUp() {
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		if s.t.Failed() {
			logs, err := s.run(ctx, "compose", "logs", "--no-color", "--tail=60")
			s.t.Logf("the containers' logs (%v):\n%s", err, logs)
		}
		for _, args := range [][]string{
			{"compose", "down", "-v", "--remove-orphans", "--timeout", "5"},
			{"image", "rm", "-f", s.project},
		} {
			if out, err := s.run(ctx, args...); err != nil {
				s.t.Errorf("clean up: %v\n%s", err, out)
			}
		}
	})
}

// clone copies what git clone would bring: everything that is not ignored.
func clone(t *testing.T) string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	list.Dir = root
	files, err := list.Output()
	if err != nil {
		t.Fatalf("list the repository's files: %v", err)
	}
	dir := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		err := copyFile(filepath.Join(root, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // deleted, and not committed yet
			t.Fatalf("copy the repository: %v", err)
		}
	}
	return dir
}

// copyFile copies a file, or a link as a link.
func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if target, err := os.Readlink(from); err == nil {
		return os.Symlink(target, to)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// run runs the docker command in the clone and returns what it printed.
func (s *stack) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// must is run that ends the test on an error.
func (s *stack) must(limit time.Duration, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	begin := time.Now()
	out, err := s.run(ctx, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("docker %s: %.1f s", strings.Join(args, " "), time.Since(begin).Seconds())
	return strings.TrimSpace(out)
}

// decode is must for a command that prints JSON.
func (s *stack) decode(into any, args ...string) {
	s.t.Helper()
	out := s.must(stepTimeout, args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		s.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// needDocker skips the test, or fails it where Docker is required, if the docker
// command with its compose plugin, or an engine behind it, is missing.
func needDocker(t *testing.T, engine bool) {
	t.Helper()
	services.Needs(t, "containers")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	commands := [][]string{{"docker", "compose", "version"}}
	if engine {
		commands = append(commands, []string{"docker", "info"})
	}
	for _, c := range commands {
		out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput()
		if err == nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		reason := fmt.Sprintf("no Docker here: %s: %v: %s", strings.Join(c, " "), err, lines[len(lines)-1])
		if os.Getenv(envDocker) == required {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
}
