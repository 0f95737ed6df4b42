package tail

import (
	"io"
	"strings"
	"testing"

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
		"braces in text": {`{"a":{"b":"}{"}}`, "{\n  \"a\": {\"b\": \"}{\"}\n}"},
		"empty":          {`{}`, "{}"},
		"no JSON":        {"tombstone", "tombstone"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.ReplaceAll(body(terminal.New(io.Discard, nil), []byte(c.value)), "\n"+bodyIndent, "\n")
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
