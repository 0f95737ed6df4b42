package terminal

import (
	"io"
	"slices"
	"sync"
)

// bottom is the line below everything that is printed. A process has one terminal, whatever
// screens are made of its outputs.
var bottom statusLine //nolint:gochecknoglobals // it stands for the terminal, of which there is one

// statusLine is a line that is redrawn. What is written goes above it.
type statusLine struct {
	mu   sync.Mutex
	out  io.Writer
	text string // what is shown
	// shows are those who show something: the one that came last has the line.
	shows []*Progress
}

// begin gives the line to p, until end.
func (l *statusLine) begin(p *Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shows = append(l.shows, p)
}

// draw shows a text, if the line is p's.
func (l *statusLine) draw(p *Progress, out io.Writer, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.shows) > 0 && l.shows[len(l.shows)-1] == p && l.text != text {
		l.redraw(out, text)
	}
}

// end takes p's line away.
func (l *statusLine) end(p *Progress, out io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shows = slices.DeleteFunc(l.shows, func(other *Progress) bool { return other == p })
	if l.text != "" {
		l.redraw(out, "")
	}
}

func (l *statusLine) redraw(out io.Writer, text string) {
	l.out, l.text = out, text
	_, _ = io.WriteString(out, clearLine+text) // Nobody watches a closed terminal.
}

const clearLine = "\r\x1b[K"

// above writes to a terminal, above the line.
func (l *statusLine) above(out io.Writer, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		_, err := io.WriteString(out, text)
		return err
	}
	_, _ = io.WriteString(l.out, clearLine) // The error of the text itself tells.
	_, err := io.WriteString(out, text)
	_, _ = io.WriteString(l.out, l.text)
	return err
}

// Above is an output whose lines go above the status line, if it is a terminal.
func Above(out io.Writer) io.Writer {
	if s := New(out, nil); s.Interactive() {
		return screenWriter{s}
	}
	return out
}

type screenWriter struct{ screen *Screen }

// Write implements io.Writer.
func (w screenWriter) Write(text []byte) (int, error) { return len(text), w.screen.write(string(text)) }
