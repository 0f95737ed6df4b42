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
		if err := table.Print(&Screen{out: &out, colour: test.colour}); err != nil {
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
func TestStatusLine(t *testing.T) {
	var out bytes.Buffer
	s := &Screen{out: &out, status: "half"}
	if err := s.Print("done a"); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "\r\x1b[Kdone a\nhalf"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProgressLine(t *testing.T) {
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	p := newProgress(&Screen{}, "replay", "events", 0, began)
	p.Add(12_000)
	if got, want := p.line(began.Add(4*time.Second)), "replay: 12,000 events, 3,000/s, for 4.0 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Total(24_000)
	p.Detail("Consent")
	if got, want := p.line(began.Add(6*time.Second)), "replay: 12,000 of 24,000 events (50 %), 2,000/s, 6.0 s left, Consent"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// The rate is that of late: nothing has moved for as long as it looks back.
	if got, want := p.line(began.Add(17*time.Second)), "replay: 12,000 of 24,000 events (50 %), 0/s, for 17.0 s, Consent"; got != want {
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
	p := newProgress(&Screen{}, "backfill", "documents", 10_000, began)
	p.resume(5000, began)
	if got, want := p.line(began), "backfill: 5,000 of 10,000 documents (50 %), 0/s, for 0 ms"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Set(5200)
	if got, want := p.line(began.Add(2*time.Second)), "backfill: 5,200 of 10,000 documents (52 %), 100/s, 48.0 s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Phase("s of the oplog", 600)
	p.Made(3000, "events")
	p.resume(0, began.Add(2*time.Second))
	p.Set(60)
	p.Made(5000, "events")
	if got, want := p.line(began.Add(4*time.Second)), "backfill: 60 of 600 s of the oplog (10 %), 5,000 events, 1,000/s, 18.0 s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProgressOfNoTerminal(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(New(&out, nil), "verify", "ids", 10)
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
		Duration(12 * time.Millisecond): "12 ms", Duration(1500 * time.Millisecond): "1.5 s", Duration(59990 * time.Millisecond): "59.9 s",
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
