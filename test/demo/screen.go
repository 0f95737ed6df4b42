package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Colours of a terminal (SGR codes).
const (
	bold    = "1"
	dim     = "2"
	red     = "31"
	green   = "32"
	yellow  = "33"
	cyan    = "36"
	magenta = "35"
)

// screen is where the demo is seen. It may be used by several goroutines.
type screen struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	began  time.Time
}

// newScreen writes in colour to a terminal, unless NO_COLOR asks for none.
func newScreen(out *os.File) *screen {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &screen{
		out: out, began: time.Now(),
		colour: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) print(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A screen that is gone (a closed pipe) is no reason to fail.
	_, _ = io.WriteString(s.out, strings.Join(lines, "\n")+"\n")
}

func (s *screen) heading(text string) { s.print("", s.paint(bold, text)) }

// note is a line about what the demo itself does, with the seconds since its
// beginning.
func (s *screen) note(format string, args ...any) {
	at := fmt.Sprintf("%6.1f s  ", time.Since(s.began).Seconds())
	s.print(s.paint(dim, at) + fmt.Sprintf(format, args...))
}

// trouble is a line that the daemon has logged as a warning or an error.
func (s *screen) trouble(line string) { s.print(s.paint(yellow, "         fhir-cdc: ") + line) }

// step tells what the FHIR server was asked, and what it writes to MongoDB then.
func (s *screen) step(request, writes string) {
	s.print("", s.paint(bold+";"+cyan, "→ "+request), s.paint(dim, "  MongoDB: "+writes))
}

// record shows a record. after is the time since the write, negative if it is not
// known.
func (s *screen) record(kind string, r *kgo.Record, after time.Duration) {
	headline := fmt.Sprintf("← %s  %s", s.paint(bold+";"+colourOf(kind), kind), r.Topic)
	if after >= 0 {
		headline += s.paint(green, fmt.Sprintf("  %d ms after the write", after.Milliseconds()))
	}
	lines := []string{"  " + headline, "    " + s.paint(dim, "key      ") + string(r.Key)}
	for i, h := range r.Headers {
		label := "         "
		if i == 0 {
			label = "headers  "
		}
		lines = append(lines, "    "+s.paint(dim, label)+s.paint(cyan, h.Key)+"="+string(h.Value))
	}
	s.print(append(lines, "    "+s.paint(dim, "value    ")+s.body(r.Value))...)
}

func colourOf(kind string) string {
	switch kind {
	case kindChange:
		return green
	case kindExport:
		return yellow
	case kindAccessedEverything:
		return magenta
	default:
		return red
	}
}
