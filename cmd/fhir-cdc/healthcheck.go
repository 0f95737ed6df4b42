package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// healthTimeout is below the usual limits of container health checks.
const healthTimeout = 3 * time.Second

func newHealthcheckCommand(environ []string, stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running daemon on this host whether it is well",
		Long: `Ask the daemon at http.address for /readyz (or another probe) and end with 0 if the
answer is yes, 1 if it is no or there is none. It is for containers, whose image
holds nothing else that could ask.`,
		Example: `  # In a Dockerfile
  HEALTHCHECK CMD ["/fhir-cdc", "healthcheck"]`,
		Args: cobra.NoArgs,
	}
	flags := addConfigFlags(cmd, environ)
	probe := cmd.Flags().String("probe", "readyz", "livez, readyz or startupz")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := flags.load(cmd)
		if err != nil {
			return err
		}
		return healthcheck(cmd.Context(), cfg.HTTP.Address, *probe, stdout)
	}
	return cmd
}

func healthcheck(ctx context.Context, address, probe string, stdout io.Writer) error {
	if address == config.HTTPOff {
		return &usageError{"http.address is off, so there is nobody to ask"}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("http.address: %w", err)
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1" // It listens everywhere, so here too.
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	url := "http://" + net.JoinHostPort(host, port) + "/" + probe
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	const enough = 4 << 10
	text, err := io.ReadAll(io.LimitReader(response.Body, enough))
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says: %s", url, strings.TrimSpace(string(text)))
	}
	_, err = fmt.Fprintf(stdout, "%s", text)
	return err
}
