package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fhir-cdc/fhir-cdc/manpage"
)

// Every command has a man page with all that its help says.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if got := command(t, nil, "man", dir); got.code != exitOK {
		t.Fatal(got.stderr)
	}
	root, _ := newRootCommand(nil, io.Discard, io.Discard)
	requests := regexp.MustCompile(`(?m)^\.(nf|fi|PP)$`)
	pages := 0
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		pages++
		page, err := os.ReadFile(filepath.Join(dir, manpage.Name(cmd)+".1"))
		if err != nil {
			t.Error(err)
		}
		shown := strings.Join(strings.Fields(strings.NewReplacer(`\-`, "-", `\e`, `\`, `\&`, "").Replace(requests.ReplaceAllString(string(page), ""))), " ")
		texts := []string{cmd.Short, cmd.Long, cmd.Example}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			_, usage := pflag.UnquoteUsage(f)
			texts = append(texts, "--"+f.Name, usage)
		})
		for _, text := range texts {
			if !strings.Contains(shown, strings.Join(strings.Fields(text), " ")) {
				t.Errorf("the man page of %s lacks %q", cmd.CommandPath(), text)
			}
		}
		for _, c := range cmd.Commands() {
			if c.Name() != "help" {
				look(c)
			}
		}
	}
	look(root)
	if files, err := filepath.Glob(filepath.Join(dir, "*.1")); err != nil || len(files) != pages || pages < 20 {
		t.Errorf("%d pages of %d commands, %v", len(files), pages, err)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff, which formats man pages, is not there: whether it warns is not known")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.1"))
	out, err := exec.CommandContext(t.Context(), groff, append([]string{"-man", "-Tutf8", "-K", "utf8", "-ww", "-z"}, files...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}
