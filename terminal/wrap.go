package terminal

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// pieces are the parts of a text between which a table may break a line: words, and within
// a word the parts of a list, a path or a name. A time or a UUID is one.
func pieces(text string) (all []string) {
	begin := 0
	for i, r := range text {
		if strings.ContainsRune(" ,./_", r) {
			all, begin = append(all, text[begin:i+1]), i+1
		}
	}
	return append(all, text[begin:])
}

// longest is the width of the longest piece, without a space at its end.
func longest(pieces []string) (width int) {
	for _, piece := range pieces {
		width = max(width, utf8.RuneCountInString(strings.TrimSuffix(piece, " ")))
	}
	return width
}

// fold breaks a cell into lines, between pieces where it can.
func fold(text string, width int) (lines []string) {
	line := ""
	for _, piece := range pieces(text) {
		if line != "" && utf8.RuneCountInString(line+strings.TrimSuffix(piece, " ")) > width {
			lines, line = append(lines, strings.TrimSuffix(line, " ")), ""
		}
		line += piece
		for utf8.RuneCountInString(strings.TrimSuffix(line, " ")) > width {
			runes := []rune(line)
			lines, line = append(lines, string(runes[:width])), string(runes[width:])
		}
	}
	return append(lines, strings.TrimSuffix(line, " "))
}

// wrap breaks a text into lines of a width, between words; all but the first begin with indent.
// Width 0 is no limit.
func wrap(text, indent string, width int, length func(string) int) (lines []string) {
	if width <= 0 || length(text) <= width {
		return []string{text}
	}
	line, empty := "", true
	for _, word := range strings.Split(text, " ") {
		switch {
		case empty:
			line += word
			empty = strings.TrimSpace(line) == ""
			if empty {
				line += " "
			}
		case length(line)+1+length(word) > width:
			lines, line = append(lines, strings.TrimRight(line, " ")), indent+word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// Wrap breaks a line into lines of the screen's width, between words; all but the first
// begin with indent. A word that is longer than a line stays whole, so that it can be copied.
func (s *Screen) Wrap(line, indent string) []string {
	return wrap(line, indent, s.Width(), s.length)
}

// length is the number of characters of a text that are seen, so without the styles.
func (s *Screen) length(text string) int {
	if !s.colour {
		return utf8.RuneCountInString(text)
	}
	n := 0
	for text != "" {
		before, styled, found := strings.Cut(text, s.begin)
		n += utf8.RuneCountInString(before)
		if !found {
			break
		}
		_, text, _ = strings.Cut(styled, styleEnds)
		shown, behind, _ := strings.Cut(text, textEnds)
		n += utf8.RuneCountInString(shown)
		text = behind
	}
	return n
}

// Flow prints lines, each wrapped, with indent before what is wrapped.
func (s *Screen) Flow(indent string, lines ...string) error {
	var wrapped []string
	for _, line := range lines {
		wrapped = append(wrapped, s.Wrap(line, indent)...)
	}
	return s.Print(wrapped...)
}

// goesOn tells whether a line goes on with what the one before says of a name: it begins in
// its column, within a sentence.
func goesOn(before, line string) bool {
	text := strings.TrimLeft(line, " ")
	column := len(line) - len(text)
	first, _ := utf8.DecodeRuneInString(text)
	return unicode.IsLower(first) && column > len(gap) && strings.HasPrefix(before, gap) && strings.LastIndex(before, gap)+len(gap) == column
}

// Help are the lines of a command's help, in the screen's width: those of a paragraph are joined
// and broken anew, and what is said of a name stays in its column. Examples stay as they are, to be
// copied.
func (s *Screen) Help(text string) (fitted []string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if s.Width() == 0 {
		return lines
	}
	sentence := func(line string) bool { return line != "" && line[0] != ' ' }
	var joined []string
	for _, line := range lines {
		last := len(joined) - 1
		switch {
		case last >= 0 && sentence(line) && sentence(joined[last]) && !strings.HasSuffix(joined[last], ":"):
			joined[last] += " " + line
		case last >= 0 && goesOn(joined[last], line):
			joined[last] += " " + strings.TrimLeft(line, " ")
		default:
			joined = append(joined, line)
		}
	}
	heading, column := "", 0
	for _, line := range joined {
		if sentence(line) {
			heading, column = line, 0
		}
		if heading == "Examples:" {
			fitted = append(fitted, line)
			continue
		}
		// The longest name of a list may have one space behind it, in the column of the others.
		if i := strings.LastIndex(line, gap); i >= 0 && (i+len(gap) > column || len(line) < column || line[column-1] != ' ') {
			column = i + len(gap)
		}
		fitted = append(fitted, s.Wrap(line, strings.Repeat(" ", column))...)
	}
	return fitted
}
