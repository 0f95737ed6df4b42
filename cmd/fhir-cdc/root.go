package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

const rootHelp = `fhir-cdc watches the MongoDB of a FHIR server and writes to Kafka, for every
committed change, the event that the server's consumers know: change events,
bulk export events, and usage events of $everything.

It takes the FHIR server's own environment variables as they are (MONGO_URL,
KAFKA_URLS, ENABLE_EVENTS_KAFKA and so on), so beside a configured server this
is all there is to do:

  fhir-cdc run

Every setting is in config.yaml with its default. Stronger than the file are the
server's variables, then FHIR_CDC_* variables (FHIR_CDC_TOPICS_CREATE=true for
topics.create), then flags (--set topics.create=true).`

const rootExample = `  # See what would be used, and where each value comes from
  fhir-cdc config print --origins

  # Find every mistake in a configuration
  fhir-cdc config validate --config config.yaml

  # Print events instead of sending them, from the oldest change there is
  MONGO_URL='mongodb://localhost:27017/?directConnection=true' \
    ENABLE_EVENTS_KAFKA=1 fhir-cdc run --sink stdout --start oldest`

// newRootCommand builds all commands. started becomes true when a command has
// accepted its flags and arguments.
func newRootCommand(environ []string, stdout, stderr io.Writer) (root *cobra.Command, started *bool) {
	started = new(bool)
	root = &cobra.Command{
		Use:     "fhir-cdc",
		Short:   "Every committed change of a FHIR server, as its Kafka event",
		Long:    rootHelp + "\n\n" + exitCodeHelp(),
		Example: rootExample,
		Version: versionInfo().Version,
		// Errors are printed once, in execute.
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseEmpty(cmd); err != nil {
				return err
			}
			*started = true
			if name := cmd.Name(); name != "run" && name != "healthcheck" { // which are for no person
				terminal.Begin(cmd.Context(), strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "))
			}
			return nil
		},
	}
	// Cobra's templates, such as that of --version, stay unchanged: setting one links
	// text/template in, and the linker then keeps 6 MB of methods that a template could name.
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetGlobalNormalizationFunc(plural)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		screen := terminal.New(stdout, environ)
		_ = screen.Print(screen.Help(cmp.Or(cmd.Long, cmd.Short) + "\n\n" + cmd.UsageString())...) // as cobra's own, it has nobody to tell an error
	})
	group(root)
	root.AddCommand(
		newRunCommand(environ, stdout, stderr),
		newReplayCommand(environ, stdout, stderr),
		newBackfillCommand(environ, stdout, stderr),
		newVerifyCommand(environ, stdout, stderr),
		newConfigCommand(environ, stdout),
		newCheckCommand(environ, stdout, stderr),
		newPositionCommand(environ, stdout, stderr),
		newTailCommand(environ, stdout, stderr),
		newHealthcheckCommand(environ, stdout),
		newStatusCommand(environ, stdout),
		newAuditCommand(environ, stdout, stderr),
		newDeadLettersCommand(environ, stdout, stderr),
		newControlCommand(environ, stdout, "pause"),
		newControlCommand(environ, stdout, "resume"),
		newLogLevelCommand(environ, stdout),
		newVersionCommand(stdout),
		newManCommand(),
	)
	return root, started
}

// plural gives a list flag one name: people write --kind change as well as --kinds
// change,export.
func plural(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "kind", "resource", "id":
		name += "s"
	}
	return pflag.NormalizedName(name)
}

// group makes cmd a mere holder of subcommands: alone it prints its help, and with an
// unknown subcommand it suggests a known one, even if that one's flags follow.
func group(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = unknownSubcommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if positional := cmd.Flags().Args(); cmd.HasSubCommands() && len(positional) > 0 {
			return unknownSubcommand(cmd, positional)
		}
		return err
	})
}

func unknownSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		message += "; did you mean " + strings.Join(similar, " or ") + "?"
	}
	return installation.Usagef("%s", message)
}
