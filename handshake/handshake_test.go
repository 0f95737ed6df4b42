package handshake_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/handshake"
)

// Errors of real handshakes, as the clients wrap them.
func TestRefused(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	trusted := secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	for _, tc := range []struct {
		name, address string
		config        *tls.Config
	}{
		{"unknown authority", secure.Listener.Addr().String(), &tls.Config{ServerName: "example.com"}},
		{"another name", secure.Listener.Addr().String(), &tls.Config{RootCAs: trusted, ServerName: "other.test"}},
		{"no certificate of our own", secure.Listener.Addr().String(), &tls.Config{RootCAs: trusted, ServerName: "example.com"}},
		{"no TLS at all", plain.Listener.Addr().String(), &tls.Config{ServerName: "example.com"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", tc.address, tc.config)
			if err == nil {
				// In TLS 1.3 the server's alert comes with the first read.
				defer conn.Close()
				_, err = conn.Read(make([]byte, 1))
			}
			if !handshake.Refused(fmt.Errorf("connect: %w", err)) {
				t.Errorf("%v (%T) is not taken for a refusal", err, err)
			}
		})
	}
	for _, err := range []error{nil, io.EOF, context.DeadlineExceeded, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}} {
		if handshake.Refused(err) {
			t.Errorf("%v is taken for a refusal", err)
		}
	}
}
