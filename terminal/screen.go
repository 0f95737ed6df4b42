package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Style is a colour or another mark of text: parameters of an SGR sequence.
type Style string

// The styles. Two go together as Bold + ";" + Cyan.
const (
	Plain   Style = ""
	Bold    Style = "1"
	Dim     Style = "2"
	Red     Style = "31"
	Green   Style = "32"
	Yellow  Style = "33"
	Magenta Style = "35"
	Cyan    Style = "36"
)

// Screen is a place that a command writes to. Several goroutines may use it: what
// one call prints stays together.
type Screen struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	file   *os.File // nil: not a terminal
	status string   // the line that is redrawn; it stands below all that is printed
}

// New makes a screen of a command's output. environ, in the form of os.Environ, may
// hold NO_COLOR (any value but the empty one) and TERM=dumb, which switch colours off.
func New(out io.Writer, environ []string) *Screen {
	s := &Screen{out: out}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || variable(environ, "TERM") == "dumb" {
		return s
	}
	s.file, s.colour = file, variable(environ, "NO_COLOR") == ""
	return s
}

// variable is the value of a variable, the last one where there are several.
func variable(environ []string, name string) (value string) {
	for _, v := range environ {
		if text, ok := strings.CutPrefix(v, name+"="); ok {
			value = text
		}
	}
	return value
}

// Interactive tells whether a person watches: lines may be redrawn.
func (s *Screen) Interactive() bool { return s.file != nil }

// Paint gives text a style, where the screen shows any.
func (s *Screen) Paint(style Style, text string) string {
	if !s.colour || style == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// Print writes lines. The error is that of the output: a closed pipe, a full disk.
func (s *Screen) Print(lines ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(strings.Join(lines, "\n") + "\n")
}

// Printf writes one line.
func (s *Screen) Printf(format string, args ...any) error {
	return s.Print(fmt.Sprintf(format, args...))
}

// write puts text above the status line.
func (s *Screen) write(text string) error {
	if s.status != "" {
		text = "\r\x1b[K" + text + s.status
	}
	_, err := io.WriteString(s.out, text)
	return err
}

// redraw replaces the status line; an empty one takes it away.
func (s *Screen) redraw(status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if width, _, err := term.GetSize(int(s.file.Fd())); err == nil && width > 1 {
		// A line that wraps could not be taken back.
		if runes := []rune(status); len(runes) >= width {
			status = string(runes[:width-1])
		}
	}
	s.status = status
	_, _ = io.WriteString(s.out, "\r\x1b[K"+status) // nobody watches a terminal that is gone
}
