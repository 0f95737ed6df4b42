package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// outputForm is the value of --output: a table for people or JSON for machines.
type outputForm string

const (
	outputTable outputForm = "table"
	outputJSON  outputForm = "json"
)

// addOutputFlag adds --output table|json to a command that shows a result.
func addOutputFlag(cmd *cobra.Command) *outputForm {
	form := outputTable
	cmd.Flags().VarP(&form, "output", "o", "form: table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &form
}

// String implements pflag.Value.
func (f *outputForm) String() string { return string(*f) }

// Type implements pflag.Value; it names the value in the help text.
func (f *outputForm) Type() string { return "FORM" }

// Set implements pflag.Value.
func (f *outputForm) Set(text string) error {
	switch form := outputForm(text); form {
	case outputTable, outputJSON:
		*f = form
		return nil
	default:
		return errors.New("it is neither table nor json")
	}
}

// write writes value as JSON, or what table makes of it.
func (f *outputForm) write(stdout io.Writer, environ []string, value any, table func(*terminal.Screen) error) error {
	if *f == outputJSON {
		return terminal.WriteJSON(stdout, value)
	}
	return table(terminal.New(stdout, environ))
}
