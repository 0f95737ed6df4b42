package main

import (
	"strings"

	"github.com/spf13/pflag"
)

// listFlag is the value of a flag that names several things: with commas or line ends
// between them, as other commands print them, or by giving the flag again. An empty one
// stays on the list, for refuseEmpty to find: pflag's own lists drop it, and all lines
// but the first.
type listFlag struct{ values *[]string }

// addListFlag adds a list flag; values stays nil if it is not given.
func addListFlag(flags *pflag.FlagSet, values *[]string, name, usage string) {
	flags.Var(&listFlag{values}, name, usage)
}

// String implements pflag.Value.
func (l *listFlag) String() string {
	if l.values == nil { // pflag asks a zero value whether the default is one
		return ""
	}
	return strings.Join(*l.values, ",")
}

// Type implements pflag.Value; it names the value in the help text.
func (l *listFlag) Type() string { return "LIST" }

// Set implements pflag.Value.
func (l *listFlag) Set(text string) error {
	for value := range strings.SplitSeq(strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\n", ","), ",") {
		*l.values = append(*l.values, strings.TrimSpace(value))
	}
	return nil
}

// Append implements pflag.SliceValue.
func (l *listFlag) Append(value string) error {
	*l.values = append(*l.values, value)
	return nil
}

// Replace implements pflag.SliceValue.
func (l *listFlag) Replace(values []string) error {
	*l.values = values
	return nil
}

// GetSlice implements pflag.SliceValue.
func (l *listFlag) GetSlice() []string { return *l.values }
