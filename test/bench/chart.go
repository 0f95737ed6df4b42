package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"strconv"
	"strings"
)

// The columns of a table of drains that the chart shows.
const (
	columnRate   = "records/s"
	columnCPU    = "CPU s after the start"
	columnMemory = "peak RSS MiB"
)

// panel is a part of the chart: one column, one bar for each row.
type panel struct {
	column, title, note string
}

func panels() []panel {
	return []panel{
		{columnRate, "Records a second", "longer is better"},
		{columnCPU, "Processor seconds", "shorter is better; without the start"},
		{columnMemory, "Peak memory, MiB", "shorter is better"},
	}
}

// The chart's measures in pixels. GitHub shows it about 830 wide.
const (
	chartWidth  = 840
	chartMargin = 20
	namesWidth  = 160 // for the contenders' names
	panelWidth  = 208
	panelGap    = 12
	rowHeight   = 30
	barHeight   = 14
	headHeight  = 84
	footHeight  = 44
	// valueWidth is kept for the figure beside the longest bar.
	valueWidth = 52
)

// Its colours stand on a ground of its own, since a page may be dark where the system is
// light.
const chartStyle = `
    .ground { fill: #ffffff; stroke: #d1d9e0 }
    .title { fill: #1f2328; font-size: 15px; font-weight: 600 }
    .head { fill: #1f2328; font-size: 13px; font-weight: 600 }
    .text { fill: #1f2328; font-size: 12.5px }
    .ours { font-weight: 600 }
    .note { fill: #59636e; font-size: 11px }
    .axis { stroke: #8c959f }
    .bar { fill: #afb8c1 }
    .bar.ours { fill: #0969da }
    .range { stroke: #1f2328; stroke-width: 1.5 }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0d1117; stroke: #3d444d }
      .title, .head, .text { fill: #f0f6fc }
      .note { fill: #9198a1 }
      .axis { stroke: #656c76 }
      .bar { fill: #59636e }
      .bar.ours { fill: #4493f8 }
      .range { stroke: #f0f6fc }
    }
`

// figure is a cell of a table: the median, the least and the most.
type figure struct {
	text           string // the median
	mid, low, high float64
}

// parseFigure reads what spread has written.
func parseFigure(cell string) (figure, error) {
	text, between, ranged := strings.Cut(strings.TrimSuffix(cell, ")"), " (")
	f := figure{text: text}
	low, high := text, text
	if ranged {
		low, high, _ = strings.Cut(between, "-")
	}
	for _, part := range []struct {
		text string
		to   *float64
	}{{text, &f.mid}, {low, &f.low}, {high, &f.high}} {
		value, err := strconv.ParseFloat(strings.ReplaceAll(part.text, ",", ""), 64)
		if err != nil {
			return f, fmt.Errorf("%q is no figure of a table", cell)
		}
		*part.to = value
	}
	return f, nil
}

// writeChart draws a table of drains, head first, as an SVG image.
func writeChart(w io.Writer, rows [][]string) error {
	if len(rows) < 2 {
		return errors.New("a chart needs a table with rows")
	}
	var b strings.Builder
	height := headHeight + rowHeight*(len(rows)-1) + footHeight
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"title desc\""+
		" font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\">\n", chartWidth, height)
	b.WriteString("  <title id=\"title\">fhir-cdc beside other ways from MongoDB to Kafka</title>\n")
	var said strings.Builder
	var drawn strings.Builder
	for i, p := range panels() {
		if err := p.draw(&drawn, &said, rows, chartMargin+namesWidth+i*(panelWidth+panelGap)); err != nil {
			return err
		}
	}
	fmt.Fprintf(&b, "  <desc id=\"desc\">%s</desc>\n  <style>%s  </style>\n", html.EscapeString(strings.TrimSpace(said.String())), chartStyle)
	fmt.Fprintf(&b, "  <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n", chartWidth-1, height-1)
	write(&b, "title", chartMargin, 28, "", "Draining the same backlog from MongoDB to Kafka")
	for i, row := range rows[1:] {
		write(&b, "text"+ours(row[0]), chartMargin+namesWidth-8, middle(i)+4, "end", row[0])
	}
	b.WriteString(drawn.String())
	write(&b, "note", chartMargin, height-18, "", "Bars: medians. Lines: the lowest and the highest round. All on one machine, with MongoDB and Kafka.")
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// middle is the height of a row's middle.
func middle(row int) int { return headHeight + row*rowHeight + rowHeight/2 }

// ours marks the rows of the daemon.
func ours(what string) string {
	if strings.HasPrefix(what, "fhir-cdc") {
		return " ours"
	}
	return ""
}

// draw draws the panel at x, and says in words what it shows.
func (p panel) draw(b, said *strings.Builder, rows [][]string, x int) error {
	column := -1
	for i, name := range rows[0] {
		if name == p.column {
			column = i
		}
	}
	if column < 0 {
		return fmt.Errorf("the table has no column %q", p.column)
	}
	var figures []figure
	most := 0.0
	for _, row := range rows[1:] {
		if len(row) != len(rows[0]) {
			return fmt.Errorf("the row of %q has %d cells, its head %d", row[0], len(row), len(rows[0]))
		}
		f, err := parseFigure(row[column])
		if err != nil {
			return err
		}
		figures = append(figures, f)
		most = max(most, f.high)
	}
	if most == 0 {
		return fmt.Errorf("the column %q has nothing to show", p.column)
	}
	write(b, "head", x, headHeight-28, "", p.title)
	write(b, "note", x, headHeight-12, "", p.note)
	fmt.Fprintf(said, "%s:", p.title)
	length := func(v float64) float64 { return v / most * (panelWidth - valueWidth) }
	for i, f := range figures {
		what := rows[i+1][0]
		fmt.Fprintf(said, " %s %s,", what, f.text)
		y := middle(i)
		fmt.Fprintf(b, "  <rect class=\"bar%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", ours(what), x, y-barHeight/2, max(length(f.mid), 1), barHeight)
		if f.high > f.low {
			fmt.Fprintf(b, "  <path class=\"range\" d=\"M%.1f %dH%.1f\"/>\n", float64(x)+length(f.low), y, float64(x)+length(f.high))
		}
		write(b, "text"+ours(what), x+int(length(f.high))+6, y+4, "", f.text)
	}
	fmt.Fprintf(b, "  <path class=\"axis\" d=\"M%d %dV%d\"/>\n", x, headHeight, middle(len(figures)-1)+rowHeight/2)
	text := strings.TrimSuffix(said.String(), ",") + ". "
	said.Reset()
	said.WriteString(text)
	return nil
}

// write puts a text into the chart; anchor is that of SVG.
func write(b *strings.Builder, class string, x, y int, anchor, text string) {
	if anchor != "" {
		anchor = fmt.Sprintf(" text-anchor=%q", anchor)
	}
	fmt.Fprintf(b, "  <text class=%q x=\"%d\" y=\"%d\"%s>%s</text>\n", class, x, y, anchor, html.EscapeString(text))
}

// reportDrains writes the table of drains, and draws it if chartFile is set.
func reportDrains(w io.Writer, results []drainResult, chartFile string) error {
	rows := drainRows(results)
	writeTable(w, rows)
	if chartFile == "" {
		return nil
	}
	var image bytes.Buffer
	if err := writeChart(&image, rows); err != nil {
		return fmt.Errorf("draw the chart: %w", err)
	}
	return os.WriteFile(chartFile, image.Bytes(), 0o600)
}

// runTables makes one table, and a chart, of the drains in files that -json has written:
// rounds that were measured one by one.
func runTables(args []string, w io.Writer) error {
	flags := flag.NewFlagSet("tables", flag.ContinueOnError)
	chartFile := flags.String("chart", "", "also draw the drains into this `file`, an SVG image")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var results []drainResult
	for _, name := range flags.Args() {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			var r drainResult
			if err := json.Unmarshal(line, &r); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if r.Kind == "drain" {
				results = append(results, r)
			}
		}
	}
	return reportDrains(w, results, *chartFile)
}
