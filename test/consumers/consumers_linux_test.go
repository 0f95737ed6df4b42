package consumers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/program"
	"github.com/fhir-cdc/fhir-cdc/test/services"
	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// testTimeout is only reached by a test that fails.
const testTimeout = 5 * time.Minute

// folder has the examples, each with its page.
const folder = "../../docs/consumers"

// example is one of docs/consumers. Its page's commands are install, if there is one, and
// run with the topics behind it.
type example struct {
	folder string
	// tools are the programs that it needs.
	tools []string
	// install gets its packages, as files list them, into the folder packages.
	install  string
	files    []string
	packages string
	run      string
}

func examples() []example {
	return []example{{
		folder: "kcat", tools: []string{"kcat", "jq"}, run: "./consume.sh",
	}, {
		folder: "python", tools: []string{"python3"},
		install: "python3 -m pip install --target packages -r requirements.txt", files: []string{"requirements.txt"}, packages: "packages",
		run: "PYTHONPATH=packages python3 consume.py",
	}, {
		folder: "java", tools: []string{"javac", "mvn"},
		install: "mvn -q dependency:copy-dependencies -DoutputDirectory=packages", files: []string{"pom.xml"}, packages: "packages",
		run: "java -cp 'packages/*' Consume.java",
	}, {
		folder: "node", tools: []string{"node", "npm"},
		install: "npm ci", files: []string{"package.json", "package-lock.json"}, packages: "node_modules",
		run: "node consume.js",
	}, {
		folder: "go", tools: []string{"go"}, run: "go run .",
	}}
}

// TestEveryExample: each example prints each event once, and none of an aborted transaction,
// however often the event is there and although the example is stopped in between.
func TestEveryExample(t *testing.T) {
	kafka := services.KafkaForTest(t, services.KafkaOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	p, folders := newTopics(ctx, t, kafka.Brokers), t.TempDir()
	all := make([]*started, len(examples()))
	last := p.first(ctx, t)
	t.Run("started", func(t *testing.T) {
		for n, e := range examples() {
			temp := filepath.Join(folders, e.folder)
			t.Run(e.folder, func(t *testing.T) {
				t.Parallel()
				s := e.installed(ctx, t, p, temp)
				s.until(ctx, t, last)
				all[n] = s
			})
		}
	})
	last = p.second(ctx, t)
	t.Run("started again", func(t *testing.T) {
		for n, e := range examples() {
			t.Run(e.folder, func(t *testing.T) {
				t.Parallel()
				if all[n] == nil {
					t.Skip("it has not run before")
				}
				all[n].until(ctx, t, last)
				all[n].printedOnce(t)
			})
		}
	})
	p.holdAll(ctx, t)
}

// started is an example that can run here.
type started struct {
	example
	topics  *topics
	dir     string
	env     []string
	printed strings.Builder
}

// installed gets what an example needs, and a folder of its own where it makes files. Where
// this machine lacks something, the test is skipped or fails as for a server.
func (e example) installed(ctx context.Context, t *testing.T, p *topics, temp string) *started {
	t.Helper()
	s := &started{example: e, topics: p, dir: filepath.Join(folder, e.folder)}
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	s.env = []string{
		"BROKERS=" + strings.Join(p.brokers, ","), "GROUP=" + p.names[0] + "." + e.folder, "SEEN=" + filepath.Join(temp, "seen.txt"),
		"JDK_JAVA_OPTIONS=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC", // it does not live long enough for more to pay
	}
	services.ForTest(t, "the tools of consumers", func(context.Context) (struct{}, error) {
		for _, tool := range e.tools {
			if _, err := exec.LookPath(tool); err != nil {
				return struct{}{}, fmt.Errorf("%w: %w", download.ErrUnavailable, err)
			}
		}
		return struct{}{}, nil
	})
	if e.install == "" {
		return s
	}
	files := make([]string, len(e.files))
	for i, name := range e.files {
		files[i] = filepath.Join(s.dir, name)
	}
	cached := services.ForTest(t, "a package client", func(context.Context) (string, error) {
		return download.Packages(ctx, "consumer-"+e.folder, files, "bash", "-c", e.install)
	})
	err := os.CopyFS(temp, os.DirFS(s.dir))
	if err == nil {
		err = os.Symlink(filepath.Join(cached, e.packages), filepath.Join(temp, e.packages))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.dir = temp
	return s
}

// until runs the example until it has printed the last events, and stops it by Ctrl-C.
func (s *started) until(ctx context.Context, t *testing.T, last []event) {
	t.Helper()
	missing := map[string]bool{}
	for _, e := range last {
		missing[e.line()] = true
	}
	out := newLines()
	var said strings.Builder
	process, err := program.Start(program.Command{
		Path: "bash", Args: []string{"-c", s.run + " " + strings.Join(s.topics.names, " ")},
		Dir: s.dir, Env: s.env, Stdout: out, Stderr: &said,
	})
	if err != nil {
		t.Fatal(err)
	}
	group := -process.Pid()
	defer func() { _ = syscall.Kill(group, syscall.SIGKILL) }()
	for len(missing) > 0 {
		select {
		case line := <-out.lines:
			s.printed.WriteString(line + "\n")
			delete(missing, line)
		case <-process.Done():
			t.Fatalf("it has ended with %d: %s", process.ExitCode(), said.String())
		case <-ctx.Done():
			t.Fatalf("%d of the last events are not printed, but\n%s", len(missing), s.printed.String())
		}
	}
	if err := syscall.Kill(group, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case line := <-out.lines:
			s.printed.WriteString(line + "\n")
			continue
		case <-process.Done():
		case <-ctx.Done():
			t.Fatal("it does not end after Ctrl-C")
		}
		break
	}
}

// printedOnce compares what was printed with what consumers have to print.
func (s *started) printedOnce(t *testing.T) {
	t.Helper()
	times := map[string]int{}
	for line := range strings.Lines(s.printed.String()) {
		times[strings.TrimSuffix(line, "\n")]++
	}
	for line, n := range times {
		switch {
		case !s.topics.once[line]:
			t.Errorf("this should not be printed: %s", line)
		case n > 1:
			t.Errorf("printed %d times: %s", n, line)
		}
	}
	for line := range s.topics.once {
		if times[line] == 0 {
			t.Errorf("not printed: %s", line)
		}
	}
	if len(times) == 0 {
		t.Error("nothing was printed: nothing is proven")
	}
}

// TestPagesHaveTheCommands: the commands of each page are those that are tested, and there is
// no other example.
func TestPagesHaveTheCommands(t *testing.T) {
	var topics []string
	for _, kind := range mapper.Kinds() {
		if !kind.OptIn {
			topics = append(topics, kind.Topic)
		}
	}
	tested := map[string]bool{"README.md": true}
	for _, e := range examples() {
		tested[e.folder] = true
		page, err := os.ReadFile(filepath.Join(folder, e.folder, "README.md"))
		if err != nil {
			t.Error(err)
			continue
		}
		block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(string(page))
		want := e.run + " " + strings.Join(topics, " ") + "\n"
		if e.install != "" {
			want = e.install + "\n" + want
		}
		if block == nil || block[1] != want {
			t.Errorf("the page of %s does not have these commands:\n%s", e.folder, want)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !tested[entry.Name()] {
			t.Errorf("%s/%s is not tested", folder, entry.Name())
		}
	}
}

// lines hands on what is written line by line.
type lines struct {
	lines chan string
	rest  []byte
}

func newLines() *lines { return &lines{lines: make(chan string)} }

// Write takes output as it comes.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.lines <- string(line)
		l.rest = rest
	}
}
