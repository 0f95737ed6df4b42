package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Messages of the daemon's log that tests wait for.
const (
	// LogBegins says that the stream has stored its first position: every change
	// from now on gets its events.
	LogBegins = "stream begins"
	// LogResumes says that the stream goes on from a stored position.
	LogResumes = "stream resumes"
	// logStatusPort names the address of the status port.
	logStatusPort = "status port open"
)

// Logs is all that the daemon has logged so far (its standard error).
func (d *Daemon) Logs() string { return read(d.stderr) }

// Stdout is the daemon's standard output so far: the events of sink stdout.
func (d *Daemon) Stdout() string { return read(d.stdout) }

// quit begins what Go's runtime writes when SIGQUIT ends a process.
const quit = "SIGQUIT: quit"

// stacks ends a process that still runs, and tells in which functions of the project each of its
// goroutines was, and for how long it had waited.
func (d *Daemon) stacks() string {
	select {
	case <-d.done:
		return ""
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := errors.Join(d.Signal(syscall.SIGQUIT), func() error { _, err := d.Wait(ctx); return err }()); err != nil {
		return err.Error()
	}
	_, dump, _ := strings.Cut(d.Logs(), quit)
	var all strings.Builder
	for goroutine := range strings.SplitSeq(dump, "\n\n") {
		var calls []string
		for line := range strings.Lines(goroutine) {
			if function, ours := strings.CutPrefix(line, "github.com/fhir-cdc/fhir-cdc/"); ours {
				calls = append(calls, function[:strings.LastIndexByte(function, '(')])
			}
		}
		if header, _, ok := strings.Cut(goroutine, "\n"); ok && len(calls) > 0 {
			fmt.Fprintln(&all, header, strings.Join(calls, " < "))
		}
	}
	return all.String()
}

// read returns a file of the test's own; it is there as long as the test.
func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}

// Entries are the JSON lines of the log, without those that are not whole yet.
func (d *Daemon) Entries() []map[string]any {
	var entries []map[string]any
	for line := range strings.Lines(d.Logs()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil {
			entries = append(entries, entry)
		}
	}
	return entries
}

// StatusAddress is the host and port of the daemon's status port. It waits until the
// port is open, which the log tells, or ctx or the process ends.
func (d *Daemon) StatusAddress(ctx context.Context) (string, error) {
	if err := d.WaitForLog(ctx, logStatusPort); err != nil {
		return "", err
	}
	for _, entry := range d.Entries() {
		if address, ok := entry["address"].(string); ok && entry["msg"] == logStatusPort {
			return address, nil
		}
	}
	return "", errors.New("the log does not name the address of the status port")
}

// WaitForLog waits until the log holds one of the texts. It gives up when ctx or
// the process ends.
func (d *Daemon) WaitForLog(ctx context.Context, texts ...string) error {
	return d.waitFor(ctx, fmt.Sprintf("log %q", texts), func() bool { return containsAny(d.Logs(), texts) })
}

// WaitForStdout waits until standard output holds the text.
func (d *Daemon) WaitForStdout(ctx context.Context, text string) error {
	return d.waitFor(ctx, fmt.Sprintf("output %q", text), func() bool { return strings.Contains(d.Stdout(), text) })
}

// WaitReady waits until each stream has its position: changes from then on have their events.
func (d *Daemon) WaitReady(ctx context.Context) error {
	if err := d.WaitForLog(ctx, LogBegins, LogResumes); err != nil {
		return err
	}
	return d.waitFor(ctx, "the positions of all streams", func() bool { return !d.lacksPosition(ctx) })
}

// lacksPosition tells whether the daemon says on its status port that a stream has no position yet.
func (d *Daemon) lacksPosition(ctx context.Context) bool {
	if !strings.Contains(d.Logs(), logStatusPort) {
		return false // It has no such port.
	}
	address, err := d.StatusAddress(ctx)
	if err != nil {
		return false
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false // It ends, or the port wants TLS.
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return err == nil && strings.Contains(string(text), "position of it")
}

func (d *Daemon) waitFor(ctx context.Context, what string, done func() bool) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		// First: what an ended process has written is complete.
		var ended bool
		select {
		case <-d.done:
			ended = true
		default:
		}
		switch {
		case done():
			return nil
		case ended:
			return fmt.Errorf("wait for %s: the daemon has ended with code %d", what, d.cmd.ProcessState.ExitCode())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-d.done:
		case <-ticker.C:
		}
	}
}

func containsAny(text string, any []string) bool {
	for _, a := range any {
		if strings.Contains(text, a) {
			return true
		}
	}
	return false
}

// Warnings are the lines that a daemon has logged at warn or above.
func Warnings(d *Daemon) []string {
	var lines []string
	for line := range strings.Lines(d.Logs()) {
		var entry struct{ Level string }
		if json.Unmarshal([]byte(line), &entry) == nil && (entry.Level == "warn" || entry.Level == "error") {
			lines = append(lines, line)
		}
	}
	return lines
}
