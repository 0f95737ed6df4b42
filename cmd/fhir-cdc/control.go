package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// controlHelp is what the help of every control ends with.
const controlHelp = `

It asks the daemon at http.address, by default on this host, with the token of
http.token (FHIR_CDC_HTTP_TOKEN or FHIR_CDC_HTTP_TOKEN_FILE), which the daemon must
have too. To ask another host: --set http.address=HOST:PORT. Every use is recorded
in the audit topic.`

func newControlCommand(environ []string, stdout io.Writer, name string) *cobra.Command {
	cmd := &cobra.Command{Use: name + " STREAM", Args: oneStream, Example: "  fhir-cdc " + name + " main", Short: "Have a paused stream go on"}
	cmd.Long = cmd.Short + " where it stands." + controlHelp
	if name == "pause" {
		cmd.Short = "Have a stream read no more until it is resumed"
		cmd.Long = `Have a stream commit what it has read and read no more, until it is resumed. It keeps
its owner, and the pause outlives restarts.` + controlHelp
	}
	flags := addConfigFlags(cmd, environ)
	flags.completesStreams(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return control(cmd, flags, stdout, name, args[0], "")
	}
	return cmd
}

func newLogLevelCommand(environ []string, stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "log-level LEVEL",
		Short:   "Change the log level of a running daemon",
		Long:    "Change the log level of a running daemon, until it ends: debug, info, warn or error." + controlHelp,
		Example: "  fhir-cdc log-level debug",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return installation.Usagef("say which LEVEL: debug, info, warn or error")
			}
			return nil
		},
		ValidArgsFunction: cobra.FixedCompletions(config.Values("log.level"), cobra.ShellCompDirectiveNoFileComp),
	}
	flags := addConfigFlags(cmd, environ)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return control(cmd, flags, stdout, "log-level", "", args[0])
	}
	return cmd
}

// control gives an order to a daemon.
func control(cmd *cobra.Command, flags *configFlags, stdout io.Writer, name, stream, level string) error {
	port, err := config.StatusPort(flags.options(cmd))
	if err != nil {
		return err
	}
	if port.Token == "" {
		return installation.Usagef("http.token is not set: put the daemon's into FHIR_CDC_HTTP_TOKEN or the file that FHIR_CDC_HTTP_TOKEN_FILE names")
	}
	client, err := statusClient(port)
	if err != nil {
		return err
	}
	if client.Exposes {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "fhir-cdc: warning: the token goes over the network without TLS: set http.tls there, and its certificate here")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 20*time.Second) // longer than the daemon waits for its audit record
	defer cancel()
	defer terminal.Waits(ctx, "the daemon at "+port.Address)()
	said, err := client.Control(ctx, string(port.Token), name, stream, level)
	if err != nil {
		return unanswered(interruptedEarly(cmd.Context(), err, "the daemon may have done it"), port)
	}
	return terminal.New(stdout, flags.environ).Flow("", said)
}
