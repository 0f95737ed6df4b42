package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

func newConfigCommand(environ []string, stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show or check the configuration",
		Long: `Show or check the configuration that fhir-cdc run would use, from file,
environment and flags together. Nothing is connected to.`,
	}
	group(cmd)
	cmd.AddCommand(newConfigPrintCommand(environ, stdout), newConfigValidateCommand(environ, stdout))
	return cmd
}

func newConfigPrintCommand(environ []string, stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the configuration that is in effect",
		Long: `Print the configuration that is in effect, as YAML or JSON, or as a table that
says where each value comes from. Secrets are redacted. With a faulty configuration it
prints what could be read, then the faults on standard error (exit code 2).`,
		Example: `  fhir-cdc config print --config config.yaml
  fhir-cdc config print --origins
  fhir-cdc config print --output json --set batch.max_records=500`,
		Args: cobra.NoArgs,
	}
	flags := addConfigFlags(cmd, environ)
	output := cmd.Flags().StringP("output", "o", "yaml", "`FORM`: yaml or json")
	origins := cmd.Flags().Bool("origins", false, "print a table of keys, values and where they come from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output != "yaml" && *output != "json" {
			return installation.Usagef("--output %q is neither yaml nor json", *output)
		}
		cfg, faults := config.Draft(flags.options(cmd))
		if cfg == nil {
			return faults
		}
		printWarnings(cmd.ErrOrStderr(), environ, cfg)
		var err error
		switch {
		case *origins && *output == "json":
			err = terminal.WriteJSON(stdout, cfg.Origins())
		case *origins:
			err = writeOrigins(terminal.New(stdout, environ), cfg)
		default:
			err = writeConfig(stdout, cfg, *output)
		}
		if err != nil {
			return fmt.Errorf("print configuration: %w", err)
		}
		return faults
	}
	return cmd
}

func newConfigValidateCommand(environ []string, stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration and report every fault",
		Long: `Check the configuration. Prints "valid", or every fault with the place that it
comes from and what to do (exit code 2).`,
		Example: `  fhir-cdc config validate --config config.yaml`,
		Args:    cobra.NoArgs,
	}
	flags := addConfigFlags(cmd, environ)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := flags.loadAloud(cmd); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(stdout, "valid"); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	return cmd
}

func writeConfig(w io.Writer, cfg *config.Config, output string) error {
	encode := cfg.RedactedYAML
	if output == "json" {
		encode = cfg.RedactedJSON
	}
	text, err := encode()
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func writeOrigins(screen *terminal.Screen, cfg *config.Config) error {
	table := terminal.NewTable("key", "value", "origin").Whole("key").Drops("value")
	for _, o := range cfg.Origins() {
		if screen.Width() > 0 { // there is one file, and a person knows where
			o.Origin = filepath.Base(o.Origin)
		}
		table.Row(terminal.Text(o.Key), terminal.Text(o.Value), terminal.Text(o.Origin))
	}
	return table.Print(screen)
}
