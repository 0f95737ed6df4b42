package config

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/held"
)

// chartKeys is the part of the chart's schema that says which keys its value config may have,
// so that a misspelt one is refused. The values are the daemon's to check.
func chartKeys() string {
	type section struct {
		names []string
		parts map[string]*section
	}
	root := &section{parts: map[string]*section{}}
	for _, k := range allKeys() {
		s := root
		for name := range strings.SplitSeq(k.Key, ".") {
			if s.parts[name] == nil {
				s.names, s.parts[name] = append(s.names, name), &section{parts: map[string]*section{}}
			}
			s = s.parts[name]
		}
	}
	var write func(b *strings.Builder, s *section, indent string)
	write = func(b *strings.Builder, s *section, indent string) {
		fmt.Fprintf(b, "%s\"additionalProperties\": false,\n%s\"properties\": {\n", indent, indent)
		for i, name := range s.names {
			fmt.Fprintf(b, "%s  %q: {", indent, name)
			if part := s.parts[name]; len(part.names) > 0 {
				fmt.Fprintf(b, "\n%s    \"type\": [\"object\", \"null\"],\n", indent)
				write(b, part, indent+"    ")
				fmt.Fprintf(b, "%s  ", indent)
			}
			b.WriteString("}")
			if i < len(s.names)-1 {
				b.WriteString(",")
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "%s}\n", indent)
	}
	var b strings.Builder
	write(&b, root, "      ")
	return b.String()
}

func TestChartKnowsEveryKey(t *testing.T) {
	const file = "../deploy/helm/fhir-cdc/values.schema.json"
	schema, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "\"description\": \"The content of config.yaml. fhir-cdc checks the values.\",\n", "    },\n"
	before, rest, ok := strings.Cut(string(schema), begin)
	_, after, closed := strings.Cut(rest, "\n"+end)
	if !ok || !closed {
		t.Fatalf("%s has no description of config", file)
	}
	held.Equal(t, file, []byte(before+begin+chartKeys()+end+after), *update, "make docs")
}
