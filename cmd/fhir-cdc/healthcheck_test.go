package main

import (
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
)

func TestHealthcheck(t *testing.T) {
	port := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			http.Error(w, "stream main is waiting", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}))
	defer port.Close()
	address := strings.TrimPrefix(port.URL, "http://")
	everywhere := "0.0.0.0" + address[strings.LastIndexByte(address, ':'):]

	var out strings.Builder
	for _, a := range []string{address, everywhere} {
		if err := healthcheck(t.Context(), config.HTTP{Address: a}, "readyz", &out); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if out.String() != "ok\nok\n" {
		t.Errorf("printed %q", out.String())
	}
	if err := healthcheck(t.Context(), config.HTTP{Address: address}, "livez", &out); err == nil || !strings.Contains(err.Error(), "stream main is waiting") {
		t.Errorf("got %v, want what the daemon says", err)
	}
	port.Close()
	if err := healthcheck(t.Context(), config.HTTP{Address: address}, "readyz", &out); err == nil || !strings.Contains(err.Error(), "see that fhir-cdc run is up") {
		t.Errorf("got %v for a daemon that is not there", err)
	}
	if err := healthcheck(t.Context(), config.HTTP{Address: "off"}, "readyz", &out); !errors.As(err, new(*installation.UsageError)) {
		t.Errorf("got %v for a port that is off", err)
	}
}

// The daemon on this host is asked without the proxy that the environment has for others, at
// whatever address of the host it listens; no proxy is ever used for a loopback one. The test
// is a process of its own: the environment's proxy is read once.
func TestHealthcheckTakesNoProxy(t *testing.T) {
	const env = "FHIR_CDC_TEST_HEALTHCHECK"
	if address := os.Getenv(env); address != "" {
		if err := healthcheck(t.Context(), config.HTTP{Address: address}, "readyz", io.Discard); err == nil {
			t.Error("nobody is there, and yet somebody has answered")
		}
		return
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the proxy is asked for %s", r.URL)
		_, _ = w.Write([]byte("ok\n"))
	}))
	defer proxy.Close()
	asking := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	asking.Env = append(os.Environ(), env+"=192.0.2.1:8080", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if out, err := asking.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// With TLS, only a port that has the very certificate of the file is believed.
func TestHealthcheckTLS(t *testing.T) {
	port := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }))
	defer port.Close()
	write := func(der []byte) string {
		path := filepath.Join(t.TempDir(), "tls.crt")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := config.HTTP{Address: strings.TrimPrefix(port.URL, "https://"), TLS: config.HTTPTLS{CertFile: write(port.Certificate().Raw)}}
	var out strings.Builder
	if err := healthcheck(t.Context(), cfg, "readyz", &out); err != nil || out.String() != "ok\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	cfg.TLS.CertFile = write([]byte("another"))
	if err := healthcheck(t.Context(), cfg, "readyz", &out); err == nil || !strings.Contains(err.Error(), "another certificate") {
		t.Errorf("got %v for another certificate", err)
	}
}
