package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// screen is where the demo is seen. It may be used by several goroutines.
type screen struct {
	*terminal.Screen
	began time.Time
}

// newScreen writes in colour to a terminal, unless NO_COLOR asks for none. began are the
// seconds of the Unix clock at which make demo began; empty: now.
func newScreen(out io.Writer, began string) *screen {
	s := &screen{Screen: terminal.New(out, os.Environ()), began: time.Now()}
	if seconds, err := strconv.ParseFloat(began, 64); err == nil {
		s.began = time.UnixMicro(int64(seconds * 1e6))
	}
	return s
}

// print writes lines. A screen that is gone (a closed pipe) is no reason to fail.
func (s *screen) print(lines ...string) { _ = s.Print(lines...) }

func (s *screen) heading(text string) { s.print("", s.Paint(terminal.Bold, text)) }

// note is a line about what the demo itself does, with the seconds since its
// beginning.
func (s *screen) note(format string, args ...any) {
	at := fmt.Sprintf("%6.1f s  ", time.Since(s.began).Seconds())
	s.print(s.Paint(terminal.Dim, at) + fmt.Sprintf(format, args...))
}

// waiting says every few seconds what is waited for and how long that usually takes, until
// done is called.
func (s *screen) waiting(what, usually string) (done func()) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ticker := time.NewTicker(4 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				s.note("waiting for %s (usually %s)", what, usually)
			}
		}
	}()
	return cancel
}

// trouble is a line that the daemon has logged as a warning or an error.
func (s *screen) trouble(line string) {
	s.print(s.Paint(terminal.Yellow, "         fhir-cdc: ") + line)
}

// step tells what the FHIR server was asked, and what it writes to MongoDB then.
func (s *screen) step(request, writes string) {
	s.print("", s.Paint(terminal.Bold+";"+terminal.Cyan, "→ "+request), s.Paint(terminal.Dim, "  MongoDB: "+writes))
}
