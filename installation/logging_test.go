//go:build unix

package installation

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// lines is a log that says when it has a line with a text.
type lines struct {
	mu      sync.Mutex
	text    bytes.Buffer
	waiting map[string]chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for text, found := range l.waiting {
		if bytes.Contains(p, []byte(text)) {
			close(found)
			delete(l.waiting, text)
		}
	}
	return l.text.Write(p)
}

func (l *lines) expect(text string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(chan struct{})
	l.waiting[text] = found
	return found
}

// The level changes while the daemon runs, by a control and by a signal, and lines are
// counted by level.
func TestLogLevel(t *testing.T) {
	out := &lines{waiting: map[string]chan struct{}{}}
	l, err := NewLogging(config.Log{Level: config.LogWarn, Format: config.LogJSON}, out)
	if err != nil {
		t.Fatal(err)
	}
	l.Info("not logged")
	if err := l.Set("info"); err != nil {
		t.Fatal(err)
	}
	l.Info("logged")
	for range 500 {
		l.Error("a burst", zap.Int("n", 1))
	}
	if n := l.Counts(); n["info"] != 1 || n["error"] != 500 || n["debug"] != 0 {
		t.Errorf("counts %v", n)
	}
	if got := strings.Count(out.text.String(), "a burst"); got != 500 {
		t.Errorf("%d of 500 errors are logged", got)
	}
	for _, wrong := range []string{"loud", "fatal", ""} {
		if l.Set(wrong) == nil {
			t.Errorf("level %q is taken", wrong)
		}
	}

	stop := l.Follow()
	for _, want := range []string{"debug", "warn"} {
		logged := out.expect(`"to":"` + want + `"`)
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		<-logged
	}
	stop()
	if got := l.Current(); got != "warn" {
		t.Errorf("level %s after a second signal, want the configured one", got)
	}
}

// A line is JSON with the standard keys for machines, or readable for people.
func TestLogForms(t *testing.T) {
	write := func(format config.LogFormat) string {
		t.Helper()
		var out bytes.Buffer
		l, err := NewLogging(config.Log{Level: config.LogInfo, Format: format}, &out)
		if err != nil {
			t.Fatal(err)
		}
		l.Warn("stream waits", zap.String("stream", "main"), zap.Duration("pause", 1500*time.Millisecond), zap.Error(errors.New("no broker")))
		return out.String()
	}
	text := write(config.LogAuto) // no terminal
	if diff := cmp.Diff(len(write(config.LogJSON)), len(text)); diff != "" && !strings.HasPrefix(text, "{") {
		t.Errorf("auto is not JSON where there is no terminal: %q", text)
	}
	var line map[string]string
	if err := json.Unmarshal([]byte(text), &line); err != nil || strings.Count(text, "\n") != 1 {
		t.Fatalf("%q: %v", text, err)
	}
	if at, err := time.Parse(time.RFC3339Nano, line["time"]); err != nil || time.Since(at) > time.Minute {
		t.Errorf("time %q: %v", line["time"], err)
	}
	delete(line, "time")
	want := map[string]string{"level": "warn", "msg": "stream waits", "stream": "main", "pause": "1.5s", "error": "no broker"}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
	if text := write(config.LogConsole); !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3}\tWARN\tstream waits\t`).MatchString(text) {
		t.Errorf("console line %q", text)
	}
}
