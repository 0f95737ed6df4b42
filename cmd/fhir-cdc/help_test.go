package main

import (
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// The help of every command fits a terminal of 80 columns, and but for examples one of 60: what is
// longer is a word that stays whole.
func TestHelpFits(t *testing.T) {
	for _, columns := range []struct {
		variable string
		width    int
	}{{"COLUMNS=80", 80}, {"COLUMNS=60", 60}} {
		var out strings.Builder
		root, _ := newRootCommand([]string{columns.variable}, &out, io.Discard)
		var walk func(*cobra.Command)
		walk = func(cmd *cobra.Command) {
			out.Reset()
			if err := cmd.Help(); err != nil {
				t.Fatal(err)
			}
			examples := false
			for line := range strings.SplitSeq(out.String(), "\n") {
				if strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " ") {
					examples = line == "Examples:"
				}
				if utf8.RuneCountInString(line) > columns.width && (columns.width == 80 || !examples) && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("%s, %s: %q", columns.variable, cmd.CommandPath(), line)
				}
			}
			for _, sub := range cmd.Commands() {
				walk(sub)
			}
		}
		walk(root)
		if !strings.Contains(out.String(), "Usage:") {
			t.Errorf("%s: no help in %q", columns.variable, out.String())
		}
	}
}
