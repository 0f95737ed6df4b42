package terminal

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// escape makes text of unknown origin safe to show on one line: it writes characters that are
// neither visible nor a space in Go's form, such as \x1b, \r or \u202e. A terminal would take
// them for commands, begin a line, or turn the direction of the text.
func escape(text string) string {
	var b strings.Builder
	shown := 0
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		bad := r == utf8.RuneError && size == 1
		if strconv.IsGraphic(r) && !bad {
			continue
		}
		b.WriteString(text[shown:i])
		shown = i + size
		if bad {
			fmt.Fprintf(&b, `\x%02x`, text[i])
			continue
		}
		quoted := strconv.QuoteRuneToGraphic(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	if shown == 0 {
		return text
	}
	b.WriteString(text[shown:])
	return b.String()
}

// escapeJSON replaces characters that a terminal must not get by JSON's own escapes, so that
// the strings stay the same. JSON encoders leave DEL, C1 controls and marks of direction
// unescaped.
func escapeJSON(encoded []byte) []byte {
	var escaped []byte
	shown := 0
	for i := 0; i < len(encoded); {
		r, size := utf8.DecodeRune(encoded[i:])
		bad := r == utf8.RuneError && size == 1
		if r < 0x7f || strconv.IsGraphic(r) && !bad {
			i += size
			continue
		}
		escaped = append(escaped, encoded[shown:i]...)
		i += size
		shown = i
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			escaped = fmt.Appendf(escaped, `\u%04x\u%04x`, high, low)
		} else {
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		}
	}
	return append(escaped, encoded[shown:]...)
}

// encode gives a value as JSON, indented if indent is not empty, with a final line break.
func encode(value any, indent string) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return escapeJSON([]byte(b.String())), nil
}
