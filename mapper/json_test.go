package mapper

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"testing/quick"
	"unicode/utf8"
)

func TestAppendString(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", `""`},
		{"plain", "con-1", `"con-1"`},
		{"quote and backslash", `a"b\c`, `"a\"b\\c"`},
		{"short escapes", "\b\f\n\r\t", `"\b\f\n\r\t"`},
		{"other control characters", "\x00\x01\x1f", `"\u0000\u0001\u001f"`},
		{"DEL is no control character in JSON", "\x7f", "\"\x7f\""},
		{"HTML is not escaped", "<a href='x'>&</a>/", `"<a href='x'>&</a>/"`},
		{"line separators are not escaped", "\u2028\u2029", "\"\u2028\u2029\""},
		{"beyond the basic plane", "é😀", `"é😀"`},
		{"U+FFFD itself", "\ufffd", "\"\ufffd\""},
		{"invalid byte", "a\xffb", "\"a\ufffdb\""},
		{"invalid byte first and last", "\xc3a\xc3", "\"\ufffda\ufffd\""},
		{"half of a surrogate pair", "\xed\xa0\x80", "\"\ufffd\ufffd\ufffd\""},
		{"overlong", "\xc0\xaf", "\"\ufffd\ufffd\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(appendString([]byte("x"), []byte(c.in))); got != "x"+c.want {
				t.Errorf("got %q, want %q", got, "x"+c.want)
			}
		})
	}
	if got, want := string(appendString(nil, []byte(`1"`), "Consent", "/")), `"Consent/1\""`; got != want {
		t.Errorf("with a prefix: %s, want %s", got, want)
	}
}

// TestAppendStringAgainstEncodingJSON holds appendString to encoding/json without
// HTML escaping. They differ where JSON.stringify does: encoding/json escapes U+2028
// and U+2029, and writes the U+FFFD for an invalid byte as an escape.
func TestAppendStringAgainstEncodingJSON(t *testing.T) {
	same := func(s []byte) bool {
		got := appendString(nil, s)
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(string(s)); err != nil {
			t.Fatal(err)
		}
		want := unescape(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
		if !bytes.Equal(got, want) {
			t.Logf("%q: got %q, want %q", s, got, want)
			return false
		}
		return json.Valid(got) && utf8.Valid(got)
	}
	random := rand.New(rand.NewPCG(3, 4))
	pieces := []string{`"`, `\`, `\u2028`, "\b", "\f", "\n", "\x00", "\x1f", "\x7f", "\x80", "\xff", "\xe2\x80", "\u2028", "\u2029", "\ufffd", "<>&'", "é", "😀", "text"}
	for range 5000 {
		var s []byte
		for range random.IntN(12) {
			s = append(s, pieces[random.IntN(len(pieces))]...)
		}
		if !same(s) {
			t.Fatal("differs")
		}
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

// unescape turns the escapes that only encoding/json writes into their characters.
func unescape(encoded []byte) []byte {
	var out []byte
	for i := 0; i < len(encoded); i++ {
		rest := encoded[i:]
		switch {
		case bytes.HasPrefix(rest, []byte(`\u2028`)):
			out, i = append(out, "\u2028"...), i+5
		case bytes.HasPrefix(rest, []byte(`\u2029`)):
			out, i = append(out, "\u2029"...), i+5
		case bytes.HasPrefix(rest, []byte(`\ufffd`)):
			out, i = append(out, "\ufffd"...), i+5
		case rest[0] == '\\': // Another escape; its second byte may be a backslash.
			out, i = append(out, rest[:2]...), i+1
		default:
			out = append(out, rest[0])
		}
	}
	return out
}
