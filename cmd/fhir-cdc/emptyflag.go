package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// refuseEmpty finds a flag that is given without a value: it is a variable of a script
// that is not set, and to take it for "not given" would choose everything, or the live
// topics.
func refuseEmpty(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		empty := func(value string) bool { return strings.TrimSpace(value) == "" }
		switch {
		case err != nil:
		case !slices.ContainsFunc(values, func(value string) bool { return !empty(value) }):
			err = &usageError{fmt.Sprintf("--%s is given but empty (a variable that is not set?): give it a value or leave it out", f.Name)}
		case slices.ContainsFunc(values, empty):
			// Which ones the others are is not said: one of --set may be a secret.
			err = &usageError{fmt.Sprintf("--%s: one of the values is empty (a variable that is not set?)", f.Name)}
		}
	})
	return err
}
