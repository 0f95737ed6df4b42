package main

import (
	"strings"
	"testing"
)

// TestCompletion: a shell is told the values of flags and arguments.
func TestCompletion(t *testing.T) {
	streams := append(server(), `FHIR_CDC_STREAMS=[{"name":"people","resources":["Person"]}]`, "FHIR_CDC_EVENTS_CHANGE_RESOURCES=Consent,Person")
	for name, test := range map[string]struct {
		environ, args []string
		want          []string
		not           string
	}{
		"kinds":          {nil, []string{"replay", "--kinds", ""}, []string{"change\n", "export\n", "accessed_everything\n"}, "dead_letter"},
		"kinds of tail":  {nil, []string{"tail", "--kinds", ""}, []string{"dead_letter\n"}, ""},
		"a further kind": {nil, []string{"verify", "--kinds", "change,"}, []string{"change,export\n"}, "change,change"},
		"resources":      {nil, []string{"backfill", "--resources", "Consent,Pa"}, []string{"Consent,Patient\n"}, ""},
		"keys":           {nil, []string{"run", "--set", "topics.c"}, []string{"topics.create=\n"}, ""},
		"values":         {nil, []string{"run", "--set", "delivery="}, []string{"delivery=exactly_once\n"}, ""},
		"a named flag":   {nil, []string{"run", "--log-format", ""}, []string{"auto\n", "json\n"}, ""},
		"streams":        {streams, []string{"position", "show", ""}, []string{"main\n", "people\n"}, ""},
		"one stream":     {streams, []string{"position", "show", "main", ""}, nil, "people"},
		"--stream":       {streams, []string{"replay", "--stream", "p"}, []string{"people\n"}, ""},
	} {
		got := command(t, test.environ, append([]string{"__complete"}, test.args...)...)
		for _, want := range test.want {
			if !strings.Contains("\n"+got.stdout, "\n"+want) {
				t.Errorf("%s: %q is not in\n%s", name, want, got.stdout)
			}
		}
		if test.not != "" && strings.Contains(got.stdout, test.not) {
			t.Errorf("%s: %q is in\n%s", name, test.not, got.stdout)
		}
	}
}
