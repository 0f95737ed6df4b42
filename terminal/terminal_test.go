package terminal

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	table := NewTable("stream", ">count", "note")
	table.Row(Text("main"), Text("12,345"), Styled(Green, "fine"))
	table.Row(Text("ö"), Text("7"))
	table.Row(Text("a longer one"), Text(""), Text("two\nlines"))
	for name, test := range map[string]struct {
		colour bool
		want   string
	}{
		"plain": {false, "STREAM         COUNT  NOTE\n" +
			"main          12,345  fine\n" +
			"ö                  7\n" +
			"a longer one          two lines\n"},
		"colour": {true, "\x1b[1mSTREAM\x1b[0m         \x1b[1mCOUNT\x1b[0m  \x1b[1mNOTE\x1b[0m\n" +
			"main          12,345  \x1b[32mfine\x1b[0m\n" +
			"ö                  7\n" +
			"a longer one          two lines\n"},
	} {
		var out bytes.Buffer
		if err := table.Print(&Screen{out: &out, colour: test.colour, begin: "begin"}); err != nil {
			t.Fatal(err)
		}
		if out.String() != test.want {
			t.Errorf("%s: got\n%q, want\n%q", name, out.String(), test.want)
		}
	}
}

// TestNoTerminal: what is no terminal gets no escape sequences, whatever TERM says.
func TestNoTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, s := range []*Screen{New(&bytes.Buffer{}, []string{"TERM=xterm"}), New(file, []string{"TERM=xterm"})} {
		if s.Interactive() || s.Paint(Red, "x") != "x" {
			t.Error("taken for a terminal")
		}
	}
}

// TestStatusLine: what is printed stands above the line that is redrawn.
// TestFlowOfNothing: no notes are no empty line.
func TestFlowOfNothing(t *testing.T) {
	var out bytes.Buffer
	if err := New(&out, nil).Flow("  "); err != nil || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestStatusLine(t *testing.T) {
	var stdout, stderr bytes.Buffer
	var l statusLine
	long, short := &Progress{}, &Progress{}
	l.begin(long)
	l.draw(long, &stderr, "half")
	if err := l.above(&stdout, "done a\n"); err != nil {
		t.Fatal(err)
	}
	if got, want := stdout.String()+"|"+stderr.String(), "done a\n|\r\x1b[Khalf\r\x1b[Khalf"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// Who came last has the line, until it ends.
	stderr.Reset()
	l.begin(short)
	l.draw(long, &stderr, "more")
	l.draw(short, &stderr, "one")
	l.end(short, &stderr)
	l.draw(long, &stderr, "all")
	l.end(long, &stderr)
	if got, want := stderr.String(), "\r\x1b[Kone\r\x1b[K\r\x1b[Kall\r\x1b[K"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is waited for is told by the work's context; where nobody watches, nothing is shown.
func TestWait(t *testing.T) {
	var out bytes.Buffer
	p := NewWait(New(&out, nil))
	ctx := With(t.Context(), p)
	Begin(ctx, "check")
	p.label = "check"
	for _, want := range []string{"check: waits for MongoDB at db:27017, for 3 s", ""} {
		ended := Waits(ctx, map[bool]string{true: "MongoDB at db:27017"}[want != ""])
		if got := p.line(p.began.Add(3 * time.Second)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		ended()
	}
	p.Close()
	if out.Len() > 0 {
		t.Errorf("nobody watches: %q", out.String())
	}
	Waits(t.Context(), "nobody")()
}

func TestProgressLine(t *testing.T) {
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	p := newProgress(&Screen{}, "replay", "event", 0, began)
	p.Set(12_000)
	if got, want := p.line(began.Add(4*time.Second)), "replay: 12,000 events, 3,000 a second, for 4 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Total(24_000)
	p.Detail("Consent")
	if got, want := p.line(began.Add(6*time.Second)), "replay: 12,000 of 24,000 events (50 %), 2,000 a second, 6 s left, Consent"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// The rate is that of late: nothing has moved for as long as it looks back.
	if got, want := p.line(began.Add(17*time.Second)), "replay: 12,000 of 24,000 events (50 %), 0 a second, for 17 s, Consent"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Set(24_000)
	if got := p.line(began.Add(18 * time.Second)); !strings.HasPrefix(got, "replay: 24,000 of 24,000 events (100 %), ") {
		t.Errorf("got %q", got)
	}
}

// What was done before is no part of the rate, nor what was counted in another phase.
func TestProgressGoesOn(t *testing.T) {
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	p := newProgress(&Screen{}, "backfill", "document", 10_000, began)
	p.resume(5000, began)
	if got, want := p.line(began), "backfill: 5,000 of 10,000 documents (50 %), 0 a second, for 0 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Set(5200)
	if got, want := p.line(began.Add(2*time.Second)), "backfill: 5,200 of 10,000 documents (52 %), 100 a second, 48 s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Phase(OplogSeconds, 600)
	p.Made(3000, "event")
	p.resume(0, began.Add(2*time.Second))
	p.Set(60)
	p.Made(5000, "event")
	if got, want := p.line(began.Add(4*time.Second)), "backfill: 1 min of 10 min of the oplog (10 %), 5,000 events, 1,000 a second, 18 s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProgressOfNoTerminal(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(New(&out, nil), "verify", "id", 10)
	p.Set(10)
	p.Close()
	p.Close()
	if got := out.String(); !strings.HasPrefix(got, "verify: 10 of 10 ids (100 %), ") || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q, want one last line", got)
	}
}

func TestValues(t *testing.T) {
	for got, want := range map[string]string{
		Count(0): "0", Count(999): "999", Count(1000): "1,000", Count(-1234567): "-1,234,567",
		Size(12): "12 B", Size(1536): "1.5 KiB", Size(3 << 30): "3.0 GiB",
		Duration(12 * time.Millisecond): "12 ms", Duration(1500 * time.Millisecond): "1.5 s", Duration(59990 * time.Millisecond): "59 s", Duration(4 * time.Second): "4 s",
		Duration(125 * time.Second): "2 min 5 s", Duration(2 * time.Hour): "2 h", Duration(-76 * time.Hour): "-3 d 4 h",
		Time(time.Time{}): "", Time(time.Date(2026, 11, 23, 10, 0, 0, 5, time.FixedZone("", 3600))): "2026-11-23T09:00:00Z",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	var out bytes.Buffer
	if err := WriteJSON(&out, map[string]string{"a": "<b>"}); err != nil {
		t.Fatal(err)
	}
	if err := WriteJSONLine(&out, []int{1}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "{\n  \"a\": \"<b>\"\n}\n[1]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	d := json.NewDecoder(&out)
	if err := d.Decode(new(any)); err != nil {
		t.Error(err)
	}
}

// TestScreenEscapes: only a style of Paint is more than text, and a line is one line.
func TestScreenEscapes(t *testing.T) {
	const wild = "a\x1b[2J\r\n\tb\u009bc\u202ed\x9be\ufdd031\ufdd1f\ufdd2é 語"
	const safe = `a\x1b[2J\r\n\tb\u009bc\u202ed\x9be\ufdd031\ufdd1f\ufdd2é 語`
	for name, test := range map[string]struct {
		colour bool
		line   func(s *Screen) string
		want   string
	}{
		"plain":                {false, func(*Screen) string { return wild }, safe},
		"paint without":        {false, func(s *Screen) string { return s.Paint(Red, wild) }, safe},
		"painted":              {true, func(s *Screen) string { return "x " + s.Paint(Red, wild) + " y" }, "x \x1b[31m" + safe + "\x1b[0m y"},
		"a stranger's marks":   {true, func(*Screen) string { return wild }, safe},
		"marks behind a style": {true, func(s *Screen) string { return s.Paint(Red, "x") + "\ufdd08\ufdd1y\ufdd2" }, "\x1b[31mx\x1b[0m" + `\ufdd08\ufdd1y\ufdd2`},
	} {
		var out bytes.Buffer
		s := &Screen{out: &out, colour: test.colour, begin: "begin"}
		if err := s.Print(test.line(s)); err != nil {
			t.Fatal(err)
		}
		if out.String() != test.want+"\n" {
			t.Errorf("%s: got %q, want %q", name, out.String(), test.want)
		}
	}
	if one, other := New(&bytes.Buffer{}, nil).begin, New(&bytes.Buffer{}, nil).begin; one == other || !strings.HasPrefix(one, styleBegins) {
		t.Errorf("styles begin with %q and %q: a stranger may know it", one, other)
	}
	var out bytes.Buffer
	table := NewTable("id")
	table.Row(Styled(Red, "a\r\n\x1bb"))
	if err := table.Print(&Screen{out: &out}); err != nil || out.String() != "ID\na \\x1bb\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// TestJSONIsSafeToShow: the text is the same JSON, and has nothing for a terminal in it.
func TestJSONIsSafeToShow(t *testing.T) {
	value := map[string]any{"a": "\x1b\x7f\u009b\u202e\U000e0001é", "b": json.RawMessage("\"\u009b\xff\"")}
	var out bytes.Buffer
	if err := WriteJSONLine(&out, value); err != nil {
		t.Fatal(err)
	}
	if want := `{"a":"\u001b\u007f\u009b\u202e\udb40\udc01é","b":"\u009b\ufffd"}` + "\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["a"] != value["a"] {
		t.Errorf("read again: %q, %v", back, err)
	}
}
