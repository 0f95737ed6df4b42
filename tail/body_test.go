package tail

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func TestBody(t *testing.T) {
	long := strings.Repeat("x", bodyWidth)
	for name, c := range map[string]struct{ value, want string }{
		"flat":       {`{"a":1,"b":"x"}`, "{\n  \"a\": 1,\n  \"b\": \"x\"\n}"},
		"inner fits": {`{"a":{"b":[1,{"c":"d"}],"e":[]}}`, "{\n  \"a\": {\"b\": [1, {\"c\": \"d\"}], \"e\": []}\n}"},
		"inner too long": {
			`{"a":[{"b":"` + long + `"}]}`,
			"{\n  \"a\": [\n    {\n      \"b\": \"" + long + "\"\n    }\n  ]\n}",
		},
		"braces in text":                   {`{"a":{"b":"}{"}}`, "{\n  \"a\": {\"b\": \"}{\"}\n}"},
		"empty":                            {`{}`, "{}"},
		"no JSON":                          {"tombstone", "tombstone"},
		"nothing":                          {"", ""},
		"blank lines":                      {"\n\n{\"a\":1}\n \n\t\r\n", "{\n  \"a\": 1\n}"},
		"a blank line behind a mere value": {"7\n\n", "7"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.ReplaceAll(strings.Join(body(terminal.New(io.Discard, nil), []byte(c.value)), "\n"), "\n"+bodyIndent, "\n")
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// FuzzLines shows any record: nothing panics, every line is one, and no byte that a
// terminal takes for more than text comes through.
func FuzzLines(f *testing.F) {
	for _, value := range []string{`{"a":{"b":[1,{"c":"}{"}]}}`, "{}\n\n", "7\n\n", "[\n\n]", "\x1b[2J", "\"\u202e\u009b1m\"", "\xff", "\"a\\u001b\""} {
		f.Add([]byte(value), "key", "\r\nheader", true)
	}
	f.Fuzz(func(t *testing.T, value []byte, key, header string, deadLetter bool) {
		topic := "t"
		if deadLetter {
			topic = "dead"
		}
		record := &kgo.Record{Topic: topic, Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{{Key: header, Value: []byte(key)}, {Key: key, Value: value}}}
		e := Decode(record, "dead", time.Now())
		for _, environ := range [][]string{nil, {"TERM=xterm"}} {
			var out, line strings.Builder
			lines := Lines(terminal.New(&out, environ), e, e.Latency())
			if err := terminal.New(&out, environ).Print(lines...); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(out.String(), "\n"); got != len(lines) {
				t.Errorf("%d lines are %d: %q", len(lines), got, out.String())
			}
			if err := terminal.WriteJSONLine(&line, e); err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{strings.ReplaceAll(out.String(), "\n", ""), strings.TrimSuffix(line.String(), "\n")} {
				for _, r := range text {
					if !strconv.IsGraphic(r) || !utf8.ValidString(text) {
						t.Fatalf("%q in %q", r, text)
					}
				}
			}
		}
	})
}
