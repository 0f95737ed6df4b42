package main

import (
	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/manpage"
)

// newManCommand writes the man pages of all commands, for packages.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIRECTORY", Short: "Write the man pages of all commands", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return manpage.Write(cmd.Root(), args[0], "fhir-cdc "+versionInfo().Version)
		},
	}
}
