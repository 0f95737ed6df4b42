package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
)

// keptLines is how many of the last lines Log remembers.
const keptLines = 200

// Entry is one line of the daemon's log (log.format: json).
type Entry struct {
	Level   string `json:"level"`
	Message string `json:"msg"`
	// Line is the line as it was written.
	Line string `json:"-"`
}

// Log takes the daemon's log as Command.Stderr. It remembers the end of it and
// lets others wait for a message.
type Log struct {
	// Each, if set, is told of every line, in order.
	Each func(Entry)

	mu      sync.Mutex
	rest    []byte
	lines   []string
	waiting map[chan struct{}][]string
}

// Write takes output as it comes; it never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.rest = append(l.rest, p...)
	var entries []Entry
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			break
		}
		e := Entry{Line: string(line)}
		if json.Unmarshal(line, &e) != nil {
			e.Message = e.Line
		}
		l.rest = rest
		l.remember(e)
		entries = append(entries, e)
	}
	l.mu.Unlock()
	if l.Each != nil {
		for _, e := range entries {
			l.Each(e)
		}
	}
	return len(p), nil
}

func (l *Log) remember(e Entry) {
	l.lines = append(l.lines[max(0, len(l.lines)-keptLines+1):], e.Line)
	for done, messages := range l.waiting {
		for _, m := range messages {
			if m == e.Message {
				close(done)
				delete(l.waiting, done)
				break
			}
		}
	}
}

// Expect gives a channel that is closed at the next line with one of the messages.
// Call it before what brings the line about.
func (l *Log) Expect(messages ...string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		l.waiting = map[chan struct{}][]string{}
	}
	done := make(chan struct{})
	l.waiting[done] = messages
	return done
}

// Tail is the last n lines.
func (l *Log) Tail(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines[max(0, len(l.lines)-n):]...)
}

// ErrEnded says that the daemon ended before it was ready.
var ErrEnded = errors.New("fhir-cdc has ended")

// Messages of the daemon that say that it reads changes: all that come from now on
// get their events.
const (
	LogBegins  = "stream begins"
	LogResumes = "stream resumes"
)

// StartDaemon runs c with its log going to log, and returns when the daemon reads
// changes. When that fails, the process has ended.
func StartDaemon(ctx context.Context, c Command, log *Log) (*Process, error) {
	ready := log.Expect(LogBegins, LogResumes)
	c.Stderr = log
	p, err := Start(c)
	if err != nil {
		return nil, err
	}
	select {
	case <-ready:
		return p, nil
	case <-p.Done():
		return nil, ErrEnded
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), p.Kill())
	}
}
