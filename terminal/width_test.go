package terminal

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func printed(t *testing.T, columns int, table *Table) []string {
	t.Helper()
	var out bytes.Buffer
	if err := table.Print(New(&out, []string{fmt.Sprintf("COLUMNS=%d", columns)})); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// TestTableFits: a table gives way in its stated order, and loses nothing silently.
func TestTableFits(t *testing.T) {
	for name, test := range map[string]struct {
		columns int
		want    []string
	}{
		"no limit":       {0, []string{"TOPIC            RECORDS  OUT OF ORDER  HELD", "business.events   12,345             7     0"}},
		"room":           {44, []string{"TOPIC            RECORDS  OUT OF ORDER  HELD", "business.events   12,345             7     0"}},
		"a heading":      {40, []string{"TOPIC            RECORDS    OUT  HELD", "                             OF", "                          ORDER", "business.events   12,345      7     0"}},
		"what is only 0": {32, []string{"TOPIC            RECORDS    OUT", "                             OF", "                          ORDER", "business.events   12,345      7", "Left out, to fit 32 columns:", "held (only 0)."}},
		"words": {26, []string{
			"TOPIC       RECORDS    OUT", "                        OF", "                     ORDER", "business.    12,345      7", "events",
			"Left out, to fit 26", "columns: held (only 0).",
		}},
		"a column": {18, []string{
			"TOPIC          OUT", "                OF", "             ORDER", "business.        7", "events",
			"Left out, to fit", "18 columns:", "records, held", "(only 0).",
		}},
	} {
		table := NewTable("topic", ">records", ">out of order", ">held").Drops("records", "held")
		table.Row(Text("business.events"), Text("12,345"), Text("7"), Text("0"))
		if got := printed(t, test.columns, table); strings.Join(got, "\n") != strings.Join(test.want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}

// TestTableAlwaysFits: where nothing may be left out, even a word is broken.
func TestTableAlwaysFits(t *testing.T) {
	for columns := 10; columns < 120; columns++ {
		table := NewTable("id", "owner")
		id := strings.Repeat("0123456789abcdef", 4)
		table.Row(Text(id), Text("fhir-cdc-7f9c.example.internal and some words"))
		var ids strings.Builder
		for _, line := range printed(t, columns, table)[1:] {
			if n := utf8.RuneCountInString(line); n > columns {
				t.Errorf("%d characters in %d columns: %q", n, columns, line)
			}
			ids.WriteString(strings.Split(line+"  ", "  ")[0])
		}
		if !strings.HasPrefix(ids.String(), id) {
			t.Errorf("in %d columns the id is %q", columns, ids.String())
		}
	}
}

func TestWrap(t *testing.T) {
	s := New(&bytes.Buffer{}, []string{"COLUMNS=20"})
	text := "  ok  topic: what is there, and an-address-longer-than-a-line at its end"
	want := "  ok  topic: what is\n      there, and\n      an-address-longer-than-a-line\n      at its end"
	if got := strings.Join(s.Wrap(text, "      "), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := New(&bytes.Buffer{}, nil).Wrap(text, "      "); len(got) != 1 || got[0] != text {
		t.Errorf("without a width: %q", got)
	}
	// Styles take no room, and are never cut.
	coloured := &Screen{out: &bytes.Buffer{}, colour: true, begin: styleBegins + "x", columns: 20}
	if got := coloured.Wrap(coloured.Paint(Red, "missing")+" 1234567890 1 x", ""); len(got) != 2 || got[1] != "x" {
		t.Errorf("got %q", got)
	}
}

func TestCounted(t *testing.T) {
	for want, got := range map[string]string{
		"1 replica": Counted(1, "replica"), "0 replicas": Counted(0, "replica"), "2,000 replicas": Counted(2000, "replica"),
		"3 entries": Counted(3, "entry", "entries"), "1 entry": Counted(1, "entry", "entries"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestHelp(t *testing.T) {
	const written = `One sentence that was broken for a width
of its own, and another.

  as it    is written there, and what was
           broken for a width of
           its own
           "so": begins a line

Examples:
  # A comment that is longer than the screen's width stays whole

Available Commands:
  short        what it does to all of the things
  longest-name what it does to all of the things
Flags:
  -c, --config FILE   a configuration of the process
`
	want := strings.Split(`One sentence that was broken for a width
of its own, and another.

  as it    is written there, and what
           was broken for a width of its
           own
           "so": begins a line

Examples:
  # A comment that is longer than the screen's width stays whole

Available Commands:
  short        what it does to all of
               the things
  longest-name what it does to all of
               the things
Flags:
  -c, --config FILE   a configuration of
                      the process`, "\n")
	if got := New(io.Discard, []string{"COLUMNS=40"}).Help(written); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := New(io.Discard, nil).Help(written); strings.Join(got, "\n")+"\n" != written {
		t.Errorf("without a width it is not as it was written:\n%s", strings.Join(got, "\n"))
	}
}
