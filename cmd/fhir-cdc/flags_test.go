package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func TestOutputFlag(t *testing.T) {
	cmd := &cobra.Command{}
	form := addOutputFlag(cmd)
	if err := cmd.ParseFlags([]string{"-o", "xml"}); err == nil || !strings.Contains(err.Error(), "neither table nor json") {
		t.Errorf("xml: %v", err)
	}
	if *form != outputTable {
		t.Errorf("the form is %q", *form)
	}
	table := func(s *terminal.Screen) error { return s.Print("a table") }
	for _, test := range []struct{ form, want string }{{"table", "a table\n"}, {"json", "{\n  \"a\": 1\n}\n"}} {
		var out bytes.Buffer
		if err := cmd.ParseFlags([]string{"-o", test.form}); err != nil {
			t.Fatal(err)
		}
		if err := form.write(&out, nil, map[string]int{"a": 1}, table); err != nil || out.String() != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.form, out.String(), err, test.want)
		}
	}
}
