package tail

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

const (
	// bodyIndent is where bodies begin on the screen.
	bodyIndent = "             "
	// bodyWidth is the longest line of a body, but for one that cannot be broken.
	bodyWidth = 110
)

// member is the name of a member at the beginning of a line or within it.
func member() *regexp.Regexp { return regexp.MustCompile(`("[A-Za-z0-9_]+"): `) }

// body lays JSON out: an object or array on one line where it fits, else a member a
// line. Anything else is shown as it is.
func body(s *terminal.Screen, value []byte) string {
	var indented bytes.Buffer
	if json.Indent(&indented, value, bodyIndent, "  ") != nil {
		return string(value)
	}
	var lines []string
	var open []int // the lines that open what is not closed yet
	for line := range strings.Lines(indented.String()) {
		line = strings.TrimRight(line, "\n")
		lines = append(lines, line)
		switch first, last := strings.TrimSpace(line)[0], line[len(line)-1]; {
		case last == '{' || last == '[':
			open = append(open, len(lines)-1)
		case first == '}' || first == ']':
			start := open[len(open)-1]
			open = open[:len(open)-1]
			if joined := join(lines[start:]); start > 0 && len(joined) <= bodyWidth {
				lines = append(lines[:start], joined)
			}
		}
	}
	return member().ReplaceAllString(strings.Join(lines, "\n"), s.Paint(terminal.Cyan, "$1")+": ")
}

// join puts an object or an array, a member a line, on one line.
func join(lines []string) string {
	var b strings.Builder
	b.WriteString(lines[0])
	for i, line := range lines[1:] {
		if i > 0 && i < len(lines)-2 {
			b.WriteByte(' ')
		}
		b.WriteString(strings.TrimSpace(line))
	}
	return b.String()
}
