package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/flagvalue"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resourcetype"
)

// completes has a shell complete the values of a flag; those of a list one after the other.
func completes(cmd *cobra.Command, flag string, values ...string) {
	completion := cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	if cmd.Flags().Lookup(flag).Value.Type() == (&flagvalue.List{}).Type() {
		completion = func(_ *cobra.Command, _ []string, typed string) (all []string, _ cobra.ShellCompDirective) {
			before := typed[:strings.LastIndex(typed, ",")+1]
			for _, value := range values {
				if !slices.Contains(strings.Split(before, ","), value) {
					all = append(all, before+value)
				}
			}
			return all, cobra.ShellCompDirectiveNoFileComp
		}
	}
	_ = cmd.RegisterFlagCompletionFunc(flag, completion)
}

// completesEvents has --kinds and --resources completed.
func completesEvents(cmd *cobra.Command, further ...string) {
	for _, kind := range mapper.Kinds() {
		further = append(further, string(kind.Name))
	}
	completes(cmd, "kinds", further...)
	if cmd.Flags().Lookup("resources") != nil {
		completes(cmd, "resources", resourcetype.All()...)
	}
}

// completesStreams has the names of streams completed, of --stream or of the argument.
func (f *configFlags) completesStreams(cmd *cobra.Command) {
	names := func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		cfg, _ := config.Draft(f.options(cmd))
		if cfg == nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return installation.StreamNames(installation.Plan(cfg)), cobra.ShellCompDirectiveNoFileComp
	}
	if cmd.Flags().Lookup("stream") == nil {
		cmd.ValidArgsFunction = names
		return
	}
	_ = cmd.RegisterFlagCompletionFunc("stream", names)
}

// completeKeys completes --set: the key, then the values that it may have.
func completeKeys(_ *cobra.Command, _ []string, typed string) (all []string, _ cobra.ShellCompDirective) {
	key, _, found := strings.Cut(typed, "=")
	if !found {
		for _, key := range config.Keys() {
			all = append(all, key+"=")
		}
		return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	for _, value := range config.Values(key) {
		all = append(all, key+"="+value)
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}
