package status

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

// Summary is the answer of /status.
type Summary = summary

// StreamSummary is the part of a Summary about one stream.
type StreamSummary = stream

// Client asks the port of a daemon that runs.
type Client struct {
	url    string
	client *http.Client
	// Exposes says that others on the network may read what is sent: no TLS, to another host.
	Exposes bool
}

// NewClient is a client of an address, host:port as the port listens on it. With a
// certificate's file it speaks TLS, and trusts that very certificate only.
func NewClient(address, certFile string) (*Client, error) {
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1" // It listens everywhere, so here too.
	}
	// No proxy of the environment: the daemon is near.
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if certFile != "" {
		scheme, transport.TLSClientConfig = "https", pinned(certFile)
	}
	// Nor where another program would send it: the token is for the daemon only.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		url: scheme + "://" + net.JoinHostPort(host, number), client: &http.Client{Transport: transport, CheckRedirect: stay},
		Exposes: certFile == "" && host != "localhost" && !net.ParseIP(host).IsLoopback(),
	}, nil
}

// ErrNoAnswer is the error of a port that does not answer.
var ErrNoAnswer = errors.New("no daemon answers here")

// Probe asks a probe, such as readyz, and returns what it says. It is an error if it does not
// say that all is well.
func (c *Client) Probe(ctx context.Context, name string) (string, error) {
	code, text, err := c.ask(ctx, http.MethodGet, "/"+name, "", nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%s says: %s", c.url+"/"+name, strings.TrimSpace(string(text)))
	}
	return string(text), err
}

// Status asks for the state of the streams.
func (c *Client) Status(ctx context.Context) (*Summary, error) {
	code, text, err := c.ask(ctx, http.MethodGet, "/status", "", nil)
	if err != nil {
		return nil, err
	}
	all := &Summary{}
	if code != http.StatusOK || json.Unmarshal(text, all) != nil {
		return nil, fmt.Errorf("%s answers with %d and no status: see that fhir-cdc has this port", c.url+"/status", code)
	}
	return all, nil
}

// Control gives an order: pause or resume with a stream, log-level with a level. It returns
// what the daemon says that it has done.
func (c *Client) Control(ctx context.Context, token, name, stream, level string) (string, error) {
	body, err := json.Marshal(order{Stream: stream, Level: level})
	if err != nil {
		return "", err
	}
	code, text, err := c.ask(ctx, http.MethodPost, "/control/"+name, token, body)
	if err != nil {
		return "", err
	}
	var said struct{ Message, Error string }
	switch _ = json.Unmarshal(text, &said); {
	case code == http.StatusNotFound:
		return "", errors.New("the daemon has no controls: set http.token there and start it again")
	case code != http.StatusOK && said.Error != "":
		return "", fmt.Errorf("not done: %s", said.Error)
	case code != http.StatusOK || said.Message == "": // another program has the port
		first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		return "", fmt.Errorf("not done: %s answers with %d and no word of fhir-cdc: %.200s", c.url, code, first)
	}
	return said.Message, nil
}

func (c *Client) ask(ctx context.Context, method, path, token string, body []byte) (code int, text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s: %w", c.url+path, err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	defer func() { _ = response.Body.Close() }()
	const enough = 4 << 20
	if text, err = io.ReadAll(io.LimitReader(response.Body, enough)); err != nil {
		return 0, nil, fmt.Errorf("ask %s: %w", c.url+path, err)
	}
	return response.StatusCode, text, nil
}

// pinned makes a client trust exactly the certificate in a file. The certificate may be for
// another name than this host's, and from an authority that the container does not know; to
// be this very certificate proves more than either.
func pinned(certFile string) *tls.Config {
	return &tls.Config{
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
	}
}
