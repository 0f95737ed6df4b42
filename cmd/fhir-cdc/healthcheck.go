package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
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
	_ = cmd.RegisterFlagCompletionFunc("probe", cobra.FixedCompletions(probes(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		port, err := config.StatusPort(flags.options(cmd))
		if err != nil {
			return err
		}
		return healthcheck(cmd.Context(), port, string(probe), stdout)
	}
	return cmd
}

// probes are those of the status port; the first is the one to ask if none is named.
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
	address := port.Address
	if address == config.HTTPOff {
		return &usageError{"http.address is off, so there is nobody to ask"}
	}
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("http.address: %w", err)
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1" // It listens everywhere, so here too.
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	scheme, client := "http", http.DefaultClient
	if port.TLS.CertFile != "" {
		scheme, client = "https", pinned(port.TLS.CertFile)
	}
	url := scheme + "://" + net.JoinHostPort(host, number) + "/" + probe
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no daemon answers here: %w (see that fhir-cdc run is up, and that its http.address is what this command reads: %s)", err, address)
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

// pinned is a client that believes a server that has the certificate of a file. The
// certificate may be for a name that this host is not called by, and from an authority
// that the container does not know; that it is the very one is more than either.
func pinned(certFile string) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the whole certificate.
		VerifyConnection: func(state tls.ConnectionState) error {
			text, err := os.ReadFile(certFile)
			if err != nil {
				return fmt.Errorf("http.tls.cert_file: %w", err)
			}
			block, _ := pem.Decode(text)
			if block == nil || !bytes.Equal(block.Bytes, state.PeerCertificates[0].Raw) {
				return errors.New("the port has another certificate than http.tls.cert_file")
			}
			return nil
		},
	}}}
}
