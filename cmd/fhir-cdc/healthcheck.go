package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// healthTimeout is below the usual limits of container health checks.
const healthTimeout = 3 * time.Second

func newHealthcheckCommand(environ []string, stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running daemon on this host whether it is well",
		Long: `Ask the daemon at http.address for /readyz (or another probe) and end with 0 if the
answer is yes, 1 if it is no or there is none. It is for containers, whose image
holds nothing else that could ask.

It reads http.address and http.tls, and no other setting. Those that the daemon got by
flags it does not see: give a container its settings by variables, or by a file that
FHIR_CDC_CONFIG names.`,
		Example: `  # In a Dockerfile
  HEALTHCHECK CMD ["/fhir-cdc", "healthcheck"]

  # Does it make progress?
  fhir-cdc healthcheck --probe livez`,
		Args: cobra.NoArgs,
	}
	flags := addConfigFlags(cmd, environ)
	probe := probeName(probes()[0])
	cmd.Flags().Var(&probe, "probe", "readyz, livez or startupz")
	completes(cmd, "probe", probes()...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		port, err := config.StatusPort(flags.options(cmd))
		if err != nil {
			return err
		}
		return healthcheck(cmd.Context(), port, string(probe), stdout)
	}
	return cmd
}

// probes are the probes of the status port; the first is the default.
func probes() []string { return []string{"readyz", "livez", "startupz"} }

// probeName is the value of --probe.
type probeName string

// String implements pflag.Value.
func (p *probeName) String() string { return string(*p) }

// Type implements pflag.Value; it names the value in the help text.
func (p *probeName) Type() string { return "PROBE" }

// Set implements pflag.Value.
func (p *probeName) Set(text string) error {
	if !slices.Contains(probes(), text) {
		return fmt.Errorf("it is none of the probes %s", strings.Join(probes(), ", "))
	}
	*p = probeName(text)
	return nil
}

func healthcheck(ctx context.Context, port config.HTTP, probe string, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	client, err := statusClient(port)
	if err != nil {
		return err
	}
	text, err := client.Probe(ctx, probe)
	if err != nil {
		return unanswered(err, port)
	}
	_, err = fmt.Fprintf(stdout, "%s", text)
	return err
}

// statusClient is a client of the status port.
func statusClient(port config.HTTP) (*status.Client, error) {
	if port.Address == config.HTTPOff {
		return nil, installation.Usagef("http.address is off, so there is nobody to ask")
	}
	client, err := status.NewClient(port.Address, port.TLS.CertFile)
	if err != nil {
		return nil, fmt.Errorf("http.address: %w", err)
	}
	return client, nil
}

// unanswered says what to look at where no daemon answers.
func unanswered(err error, port config.HTTP) error {
	if errors.Is(err, status.ErrNoAnswer) {
		return fmt.Errorf("%w (see that fhir-cdc run is up, and that its http.address is what this command reads: %s)", err, port.Address)
	}
	return err
}
