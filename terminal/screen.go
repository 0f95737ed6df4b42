package terminal

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Style is a colour or another mark of text: the parameters of an SGR sequence.
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

// Screen is an output of a command. Several goroutines may use it: the text of one call
// stays together. Screen alone makes text safe for a terminal: it escapes everything except
// the styles of Paint.
type Screen struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	begin  string   // a secret text that begins Paint's styles
	file   *os.File // nil: not a terminal
	// columns is what COLUMNS says, 0 if it says nothing.
	columns int
}

// New makes a screen of a command's output. environ, in the form of os.Environ, may
// hold NO_COLOR (any value but the empty one) and TERM=dumb, which switch colours off, and
// COLUMNS, the width of an output that is no terminal.
func New(out io.Writer, environ []string) *Screen {
	s := &Screen{out: out, begin: styleBegins + rand.Text()}
	s.columns, _ = strconv.Atoi(variable(environ, "COLUMNS"))
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || variable(environ, "TERM") == "dumb" {
		return s
	}
	s.file, s.colour = file, variable(environ, "NO_COLOR") == ""
	return s
}

// variable is the value of a variable, the last one if there are several.
func variable(environ []string, name string) (value string) {
	for _, v := range environ {
		if text, ok := strings.CutPrefix(v, name+"="); ok {
			value = text
		}
	}
	return value
}

// Width is the number of characters of a line: a terminal's own, else what COLUMNS says. 0
// is no limit, as of a file.
func (s *Screen) Width() int {
	if s.file != nil {
		if width, _, err := term.GetSize(int(s.file.Fd())); err == nil && width > 1 {
			return width
		}
	}
	return max(0, s.columns)
}

// Interactive tells whether a person watches: lines may be redrawn.
func (s *Screen) Interactive() bool { return s.file != nil }

// The characters that Paint puts around a style and behind the styled text, until the text
// is printed. Unicode leaves them to a program's own use. Text of unknown origin may hold
// them too, so a style begins with a secret text as well.
const (
	styleBegins = "\ufdd0"
	styleEnds   = "\ufdd1"
	textEnds    = "\ufdd2"
)

// Paint gives text a style, if the screen shows styles. The result is for Print.
func (s *Screen) Paint(style Style, text string) string {
	if !s.colour || style == Plain || text == "" {
		return text
	}
	return s.begin + string(style) + styleEnds + escape(text) + textEnds
}

// Print writes each text as one line: a line break within it is shown as \n. The error is
// the output's: a closed pipe, a full disk.
func (s *Screen) Print(lines ...string) error {
	if len(lines) == 0 {
		return nil
	}
	shown := make([]string, len(lines))
	for i, line := range lines {
		shown[i] = s.show(line)
	}
	return s.write(strings.Join(shown, "\n") + "\n")
}

// show escapes a line and puts the styles of Paint in.
func (s *Screen) show(line string) string {
	if !s.colour {
		return escape(line)
	}
	before, rest, _ := strings.Cut(line, s.begin)
	var b strings.Builder
	b.WriteString(escape(before))
	for rest != "" {
		style, styled, _ := strings.Cut(rest, styleEnds)
		text, behind, _ := strings.Cut(styled, textEnds)
		b.WriteString("\x1b[" + style + "m" + escape(text) + "\x1b[0m")
		before, rest, _ = strings.Cut(behind, s.begin)
		b.WriteString(escape(before))
	}
	return b.String()
}

// Printf writes one line.
func (s *Screen) Printf(format string, args ...any) error {
	return s.Print(fmt.Sprintf(format, args...))
}

// write puts text above the status line.
func (s *Screen) write(text string) error {
	if s.file != nil {
		return bottom.above(s.out, text)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.WriteString(s.out, text)
	return err
}

// Clear begins a terminal's screen anew; elsewhere it does nothing.
func (s *Screen) Clear() {
	if s.Interactive() {
		_ = s.write("\x1b[H\x1b[2J") // What is printed next tells whether the terminal is there.
	}
}

// cut is a status line that fits: one that wraps could not be taken back.
func (s *Screen) cut(status string) string {
	status = escape(status)
	if width := s.Width(); width > 1 {
		if runes := []rune(status); len(runes) >= width {
			status = string(runes[:width-1])
		}
	}
	return status
}
