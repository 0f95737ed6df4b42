package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/instance"
)

func newRunCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch MongoDB and write events until told to stop",
		Long: `Watch MongoDB and write the event of every committed change until SIGTERM or
SIGINT. The first signal stops reading, commits what is in flight and ends; a
second one, a second or more after it, aborts at once. SIGUSR1 switches debug logging on and off.

Every stream goes on where its stored position says. Without one it begins at
--start.`,
		Example: `  # With the FHIR server's own variables
  fhir-cdc run

  # With a file, and one key changed
  fhir-cdc run --config config.yaml --set kafka.compression=zstd

  # To see events without Kafka, of one member, by whatever name it has
  MONGO_URL='mongodb://localhost:27017/?directConnection=true' \
    ENABLE_EVENTS_KAFKA=1 fhir-cdc run --sink stdout --log-format console`,
		Args: cobra.NoArgs,
	}
	flags := addConfigFlags(cmd, environ)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := flags.load(cmd)
		if err != nil {
			return err
		}
		return instance.Run(cmd.Context(), cfg, versionInfo().Version, stdout, stderr)
	}
	return cmd
}
