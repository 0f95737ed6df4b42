// Package pictures takes the pictures of the pages: what commands show on a terminal.
package pictures

import (
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// colours are those of a terminal's styles on a dark ground.
func colours() map[string]string {
	return map[string]string{"31": "#ff7b72", "32": "#3fb950", "33": "#d29922", "35": "#d2a8ff", "36": "#79c0ff"}
}

// svg draws a terminal of some columns with a command and what it wrote, styles included.
func svg(command, output string, columns int) string {
	const height, width, margin = 19, 8.43, 14
	lines := append([]string{"\x1b[1m$ " + command + "\x1b[0m"}, strings.Split(strings.TrimRight(strings.ReplaceAll(output, "\r\n", "\n"), "\n"), "\n")...)
	w, h := float64(columns)*width+2*margin, len(lines)*height+2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" width="%.0f" height="%d" role="img" aria-label="%s">`+"\n",
		w, h, w, h, escaped("What "+command+" prints"))
	b.WriteString(`<rect width="100%" height="100%" rx="8" fill="#0d1117"/>` + "\n")
	b.WriteString(`<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="#c9d1d9" xml:space="preserve">` + "\n")
	for i, line := range lines {
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text>`+"\n", margin, margin+height*i+14, spans(line, width, margin))
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

// spans are a line's parts of one style each. Each has its place, so that no font moves it.
func spans(line string, width float64, margin int) string {
	style := regexp.MustCompile("\x1b\\[([0-9;]*)m")
	var b strings.Builder
	column, attributes := 0, ""
	write := func(text string) {
		if strings.TrimSpace(text) != "" {
			fmt.Fprintf(&b, `<tspan x="%.1f"%s>%s</tspan>`, float64(margin)+float64(column)*width, attributes, escaped(text))
		}
		column += utf8.RuneCountInString(text)
	}
	at := 0
	for _, m := range style.FindAllStringSubmatchIndex(line, -1) {
		write(line[at:m[0]])
		at, attributes = m[1], ""
		for code := range strings.SplitSeq(line[m[2]:m[3]], ";") {
			switch colour := colours()[code]; {
			case colour != "":
				attributes += ` fill="` + colour + `"`
			case code == "1":
				attributes += ` font-weight="bold"`
			case code == "2":
				attributes += ` fill="#8b949e"`
			}
		}
	}
	write(line[at:])
	return b.String()
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // A builder takes everything.
	return b.String()
}
