package terminal

import (
	"encoding/json"
	"io"
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

// Table is rows under a heading, with columns as wide as they need to be. A table
// is held in memory, so it is for what people read, not for streams.
type Table struct {
	columns []column
	rows    [][]Cell
}

type column struct {
	name  string
	right bool
}

// NewTable names the columns. One whose name begins with ">" is aligned to the
// right, as numbers are.
func NewTable(columns ...string) *Table {
	t := &Table{}
	for _, name := range columns {
		name, right := strings.CutPrefix(name, ">")
		t.columns = append(t.columns, column{name: name, right: right})
	}
	return t
}

// Row adds a row; cells that are left out are empty.
func (t *Table) Row(cells ...Cell) { t.rows = append(t.rows, cells) }

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Print writes the table. A line break or a tab in a cell becomes a space.
func (t *Table) Print(s *Screen) error {
	heading := make([]Cell, len(t.columns))
	for i, c := range t.columns {
		heading[i] = Styled(Bold, strings.ToUpper(c.name))
	}
	widths := make([]int, len(t.columns))
	rows := append([][]Cell{heading}, t.rows...)
	for _, row := range rows {
		for i := range row {
			row[i].Text = oneLine(row[i].Text)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].Text))
		}
	}
	lines := make([]string, len(rows))
	for n, row := range rows {
		lines[n] = t.line(s, row, widths)
	}
	return s.Print(lines...)
}

func (t *Table) line(s *Screen, row []Cell, widths []int) string {
	var b strings.Builder
	padding := 0 // written before the next text only, so that no line ends in spaces
	for i, cell := range row {
		room := widths[i] - utf8.RuneCountInString(cell.Text)
		if t.columns[i].right {
			padding += room
		}
		if cell.Text != "" {
			b.WriteString(strings.Repeat(" ", padding))
			b.WriteString(s.Paint(cell.Style, cell.Text))
			padding = 0
		}
		padding += len(gap)
		if !t.columns[i].right {
			padding += room
		}
	}
	return b.String()
}

func oneLine(text string) string {
	return strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(text)
}

// WriteJSON writes a value as one indented JSON document.
func WriteJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// WriteJSONLine writes a value as one line of JSON, for output that has no end.
func WriteJSONLine(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
