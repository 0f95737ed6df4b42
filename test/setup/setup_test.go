// Package setup tests the list of what a machine must have (setup.sh).
package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// machine is a made-up one, with no more commands than it is given.
type machine struct {
	t              *testing.T
	commands, home string
	env            []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, commands: t.TempDir(), home: t.TempDir()}
	for _, name := range []string{"bash", "cat", "dirname", "env", "grep", "head", "mkdir", "mktemp", "rm", "sed", "sort"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(path, filepath.Join(m.commands, name)); err != nil {
			t.Fatal(err)
		}
	}
	m.has("id", "echo 1000").has("uname", "echo Linux x86_64")
	return m
}

// has gives the machine a command, a shell script.
func (m *machine) has(name, script string) *machine {
	m.t.Helper()
	path := filepath.Join(m.commands, name)
	// What stands there may be a link to this machine's own command, which stays as it is.
	if err := os.RemoveAll(path); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		m.t.Fatal(err)
	}
	return m
}

// setup runs setup.sh and returns what it says.
func (m *machine) setup(args ...string) (said string, err error) {
	m.t.Helper()
	if _, err := os.Stat("setup.sh"); err != nil { // go test looks for changes in what the test itself asks for
		m.t.Fatal(err)
	}
	cmd := exec.CommandContext(m.t.Context(), "bash", append([]string{"setup.sh"}, args...)...)
	cmd.Env = append(m.env, "PATH="+m.commands, "HOME="+m.home, "TMPDIR="+m.home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// all gives the machine what the demo needs, but for libraries, which are this machine's.
func (m *machine) all() *machine {
	return m.has("go", "echo go1.99.0").has("python3", "exit 0").has("mvn", "exit 0").
		has("java", `echo 'openjdk version "21.0.1" 2023-10-17' >&2`).has("ldconfig", "echo libcurl.so.4 libssl.so.3 liblzma.so.5")
}

func contains(t *testing.T, said string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
}

func TestAllThatIsMissingIsNamedAtOnce(t *testing.T) {
	m := newMachine(t).has("ldconfig", "")
	for what, more := range map[string][]string{"demo": nil, "test": {"git", "make", "C compiler", "gcc libc6-dev", "FOR=test"}} {
		said, err := m.setup("check", what)
		if err == nil {
			t.Errorf("%s: nothing is missing", what)
		}
		contains(t, said, append(more, "Go 1.", "Java 17", "Maven", "pip", "libcurl", "libssl", "liblzma", "make setup",
			"apt-get install", "python3-pip", "default-jre-headless", "maven", "libcurl4", "go.dev")...)
	}
}

// What leaves tests out elsewhere is missing in CI.
func TestCILeavesNothingOut(t *testing.T) {
	m := newMachine(t).all().has("git", "").has("make", "").has("gcc", "")
	said, err := m.setup("check", "test")
	if err != nil {
		t.Errorf("%v: %s", err, said)
	}
	contains(t, said, "no Chromium", "no kcat", "no jq", "no javac", "no npm")
	m.env = []string{"CI=true"}
	if said, err = m.setup("check", "test"); err == nil {
		t.Error("nothing is missing")
	}
	contains(t, said, " chromium", " kcat jq", " default-jdk-headless", " nodejs npm")
}

func TestWhatIsTooOldIsMissing(t *testing.T) {
	m := newMachine(t).all().has("go", "echo go1.19.8").has("java", `echo 'openjdk version "11.0.2" 2019-01-15' >&2`)
	said, err := m.setup("check", "demo")
	if err == nil || strings.Contains(said, "Maven") {
		t.Errorf("%v, and what is there is named:\n%s", err, said)
	}
	contains(t, said, "here is 1.19.8", "Java 17")
}

// A Go from 1.21 on gets the newer one by itself, unless it is told not to.
func TestGoThatGetsTheNewerOneIsEnough(t *testing.T) {
	m := newMachine(t).all()
	for toolchain, fits := range map[string]bool{"auto": true, "local": false} {
		m.has("go", `case "$2" in GOVERSION) echo go1.24.1;; *) echo `+toolchain+`;; esac`)
		if said, err := m.setup("check", "demo"); (err == nil) != fits {
			t.Errorf("GOTOOLCHAIN=%s: %v\n%s", toolchain, err, said)
		}
	}
}

func TestNothingIsSaidWhereAllIsThere(t *testing.T) {
	if said, err := newMachine(t).all().setup("check", "demo"); err != nil || said != "" {
		t.Errorf("%v: %s", err, said)
	}
}

func TestWhatIsDownloadedNeedsNoClient(t *testing.T) {
	m := newMachine(t).all().has("python3", "exit 1")
	if err := os.Remove(filepath.Join(m.commands, "mvn")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kafka-" + download.KafkaVersion, "mongod-" + download.MongoDBVersion} {
		if err := os.MkdirAll(filepath.Join(m.home, ".cache/fhir-cdc", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if said, err := m.setup("check", "demo"); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

func TestDockerNeedsGoOnly(t *testing.T) {
	m := newMachine(t).has("go", "echo go1.99.0").has("docker", "exit 0").has("ldconfig", "")
	if said, err := m.setup("check", "demo"); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

func TestSetupInstallsOrSaysHow(t *testing.T) {
	m := newMachine(t).all().has("ldconfig", "")
	said, err := m.setup("install", "demo")
	if err == nil {
		t.Error("it has installed something without apt")
	}
	contains(t, said, "does not let", "apt-get update && apt-get install --no-install-recommends libcurl4 libssl3 liblzma5")

	m.has("sudo", `exec "$@"`)
	m.has("apt-get", `[ "$1" = update ] || { echo "got $*"; echo 'echo libcurl.so.4 libssl.so.3 liblzma.so.5' >>`+filepath.Join(m.commands, "ldconfig")+`; }`)
	said, err = m.setup("install", "demo")
	if err != nil {
		t.Error(err)
	}
	contains(t, said, "got install", "libcurl4 libssl3 liblzma5", "make demo has what it needs")
}

// A cache that cannot be written to is the end, and nothing is written elsewhere.
func TestSetupWithoutACache(t *testing.T) {
	m := newMachine(t).all().has("mktemp", "exit 1").has("python3", `case "$*" in *install*) echo "pip runs";; esac`)
	if err := os.Remove(filepath.Join(m.commands, "go")); err != nil {
		t.Fatal(err)
	}
	said, err := m.setup("install", "demo")
	if err == nil || strings.Contains(said, "pip runs") || strings.Contains(said, "requirements") {
		t.Errorf("%v: %s", err, said)
	}
	contains(t, said, "does not let", "go.dev")
}
