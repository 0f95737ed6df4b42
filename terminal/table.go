package terminal

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// gap is the space between two columns.
const gap = "  "

// Cell is one cell of a table.
type Cell struct {
	Text  string
	Style Style
}

// Text makes an unmarked cell.
func Text(text string) Cell { return Cell{Text: text} }

// Styled makes a cell in a style.
func Styled(style Style, text string) Cell { return Cell{Text: text, Style: style} }

// Table is rows under a heading, with columns as wide as their widest cell. It is held in
// memory, so it is not for endless output.
//
// On a screen too narrow for it, headings are wrapped first. Then go the columns of Drops
// that hold nothing but 0, then texts are wrapped, then go the other columns of Drops, in
// their order and no more than have to. A last line names what is left out. Words are broken
// only where that is not enough.
type Table struct {
	columns []column
	rows    [][]Cell
	drops   []string
}

type column struct {
	name         string
	right, whole bool
	// natural is the width of its widest cell, least that of its longest word; width is what
	// it gets.
	natural, least, width int
	heading               int // the width of its heading's longest word
	blank                 bool
	out                   bool
}

// NewTable names the columns. A column whose name begins with ">" is aligned to the
// right, as for numbers.
func NewTable(columns ...string) *Table {
	t := &Table{}
	for _, name := range columns {
		name, right := strings.CutPrefix(name, ">")
		t.columns = append(t.columns, column{name: name, right: right})
	}
	return t
}

// Drops says which columns may be left out where there is no room, the first one first.
func (t *Table) Drops(columns ...string) *Table {
	t.drops = columns
	return t
}

// Whole names columns whose texts are not wrapped, as for names to be copied.
func (t *Table) Whole(columns ...string) *Table {
	for i := range t.columns {
		t.columns[i].whole = slices.Contains(columns, t.columns[i].name)
	}
	return t
}

// Row adds a row; cells that are left out are empty.
func (t *Table) Row(cells ...Cell) { t.rows = append(t.rows, cells) }

// Print writes the table. A line break or a tab in a cell becomes a space; other invisible
// characters are escaped.
func (t *Table) Print(s *Screen) error {
	t.measure()
	note := t.fit(s.Width())
	heading := make([]Cell, len(t.columns))
	for i, c := range t.columns {
		heading[i] = Styled(Bold, strings.ToUpper(c.name))
	}
	var lines []string
	for _, row := range append([][]Cell{heading}, t.rows...) {
		lines = append(lines, t.lines(s, row)...)
	}
	if note != "" {
		for _, line := range wrap(note, "", s.Width(), utf8.RuneCountInString) {
			lines = append(lines, s.Paint(Dim, line))
		}
	}
	return s.Print(lines...)
}

// measure finds out how wide each column is, and how narrow it may be.
func (t *Table) measure() {
	for i := range t.columns {
		c := &t.columns[i]
		c.heading = longest(pieces(c.name))
		c.natural, c.least, c.blank = utf8.RuneCountInString(c.name), c.heading, true
		for _, row := range t.rows {
			if i >= len(row) {
				continue
			}
			row[i].Text = oneLine(row[i].Text)
			text := row[i].Text
			words := []string{text}
			if !c.right && !c.whole {
				words = pieces(text)
			}
			c.natural, c.least = max(c.natural, utf8.RuneCountInString(text)), max(c.least, longest(words))
			c.blank = c.blank && (text == "0" || text == "-" || text == "")
		}
		c.width = c.natural
	}
}

// fit gives the columns widths that together are no more than width, and says what it
// leaves out. Without rows, as without a width, the table stays as it is.
func (t *Table) fit(width int) (note string) {
	if width <= 0 || t.sum(func(c *column) int { return c.natural }) <= width {
		return ""
	}
	for i := range t.columns { // headings may be wrapped
		c := &t.columns[i]
		c.natural = c.least
		for _, row := range t.rows {
			if i < len(row) {
				c.natural = max(c.natural, utf8.RuneCountInString(row[i].Text))
			}
		}
		c.width = c.natural
	}
	natural, least := func(c *column) int { return c.natural }, func(c *column) int { return c.least }
	blank := t.leaveOut(width, natural, true)
	var others []string
	if t.sum(natural) > width {
		others = t.leaveOut(width, least, false)
	}
	t.narrow(width, least)
	t.narrow(width, func(*column) int { return 1 }) // at last within words: nothing is lost
	if len(blank) > 0 {
		others = append(others, strings.Join(blank, ", ")+" (only 0)")
	}
	if len(others) > 0 {
		note = fmt.Sprintf("Left out, to fit %d columns: %s.", width, strings.Join(others, ", "))
	}
	return note
}

// sum is the width of the table.
func (t *Table) sum(width func(*column) int) int {
	sum := -len(gap)
	for i := range t.columns {
		if c := &t.columns[i]; !c.out {
			sum += len(gap) + width(c)
		}
	}
	return sum
}

// leaveOut leaves columns out until the table fits: the blank ones of Drops, or all of them.
func (t *Table) leaveOut(width int, widthOf func(*column) int, blank bool) (names []string) {
	for _, name := range t.drops {
		for i := range t.columns {
			c := &t.columns[i]
			if t.sum(widthOf) > width && c.name == name && !c.out && (c.blank || !blank) {
				c.out, names = true, append(names, name)
			}
		}
	}
	return names
}

// narrow takes from the widest columns what is too much, down to a least width each.
func (t *Table) narrow(width int, least func(*column) int) {
	for t.sum(func(c *column) int { return c.width }) > width {
		var widest *column
		for i := range t.columns {
			c := &t.columns[i]
			if !c.out && c.width > least(c) && (widest == nil || c.width > widest.width) {
				widest = c
			}
		}
		if widest == nil {
			return
		}
		widest.width--
	}
}

// lines are the lines of a row.
func (t *Table) lines(s *Screen, row []Cell) (lines []string) {
	texts, height := make([][]string, len(row)), 1
	for i, cell := range row {
		texts[i] = fold(cell.Text, t.columns[i].width)
		if !t.columns[i].out {
			height = max(height, len(texts[i]))
		}
	}
	for n := range height {
		part := make([]Cell, len(row))
		for i, cell := range row {
			if n < len(texts[i]) {
				part[i] = Cell{Text: texts[i][n], Style: cell.Style}
			}
		}
		lines = append(lines, t.line(s, part))
	}
	return lines
}

func (t *Table) line(s *Screen, row []Cell) string {
	var b strings.Builder
	padding := 0 // written before the next text only, so that no line ends in spaces
	for i, cell := range row {
		c := t.columns[i]
		if c.out {
			continue
		}
		room := c.width - utf8.RuneCountInString(cell.Text)
		if c.right {
			padding += room
		}
		if cell.Text != "" {
			b.WriteString(strings.Repeat(" ", padding))
			b.WriteString(s.Paint(cell.Style, cell.Text))
			padding = 0
		}
		padding += len(gap)
		if !c.right {
			padding += room
		}
	}
	return b.String()
}

// oneLine makes a cell of text that may have several lines.
func oneLine(text string) string {
	return escape(strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(text))
}

// WriteJSON writes a value as one indented JSON document.
func WriteJSON(w io.Writer, value any) error { return writeJSON(w, value, "  ") }

// WriteJSONLine writes a value as one line of JSON, for output that has no end.
func WriteJSONLine(w io.Writer, value any) error { return writeJSON(w, value, "") }

func writeJSON(w io.Writer, value any, indent string) error {
	encoded, err := encode(value, indent)
	if err != nil {
		return err
	}
	_, err = Above(w).Write(encoded)
	return err
}
