// Package manpage writes the help of commands as man pages. Cobra's own generator takes the help for
// Markdown: it would swallow <name>, * and _ and fill tables.
package manpage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Write writes the man pages of a command and those below it, each as NAME.1, into a folder, which
// it makes. program stands in their feet: name and version.
func Write(cmd *cobra.Command, dir, program string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // man reads it
		return err
	}
	return write(cmd, dir, program)
}

func write(cmd *cobra.Command, dir, program string) error {
	name := Name(cmd) + ".1"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(page(cmd, program)), 0o644); err != nil { //nolint:gosec // man reads it
		return err
	}
	for _, c := range cmd.Commands() {
		if hasPage(c) {
			if err := write(c, dir, program); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasPage leaves out cobra's own commands, and hidden ones.
func hasPage(c *cobra.Command) bool {
	return c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion"
}

// Name is the name of a command's page, with hyphens for spaces.
func Name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page is the help of a command as a man page.
func page(cmd *cobra.Command, program string) string {
	cmd.InitDefaultHelpFlag()
	var b strings.Builder
	name := Name(cmd)
	fmt.Fprintf(&b, ".TH %s 1 \"\" %q fhir-cdc\n.ad l\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), roff(program), roff(name), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n", roff(cmd.UseLine()))
	for _, paragraph := range strings.Split(cmd.Long, "\n\n") {
		fill(&b, paragraph)
	}
	b.WriteString(".SH OPTIONS\n")
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR \\fI%s\\fR\n%s\n", roff(short+"--"+f.Name), roff(value), roff(usage))
	})
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
	var others []string
	if cmd.HasParent() {
		others = append(others, roff(Name(cmd.Parent()))+"(1)")
	}
	for _, c := range cmd.Commands() {
		if hasPage(c) {
			others = append(others, roff(Name(c))+"(1)")
		}
	}
	if len(others) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(others, ", "))
	}
	return b.String()
}

// fill fills a paragraph, except for lines that are indented, which are a table or code.
func fill(b *strings.Builder, paragraph string) {
	b.WriteString(".PP\n")
	kept := false
	for line := range strings.SplitSeq(paragraph, "\n") {
		if indented := strings.HasPrefix(line, " "); indented != kept {
			kept = indented
			b.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[kept])
		}
		b.WriteString(roff(line) + "\n")
	}
	if kept {
		b.WriteString(".fi\n")
	}
}

// roff escapes text: no line of it is a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
