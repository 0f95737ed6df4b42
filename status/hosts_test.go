package status

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// A page whose name has been made to lead here gets nothing; whoever asks for this port by
// one of its names does.
func TestHosts(t *testing.T) {
	s := New(Options{Hosts: []string{"cdc-1.corp.test:8080", "status.example.org"}}, views(), NewRegistry(), zap.NewNop()).handler()
	for host, allowed := range map[string]bool{
		"127.0.0.1:8080": true, "10.1.2.3:8080": true, "[::1]:8080": true, "::1": true, "localhost:8080": true, "LOCALHOST": true,
		"fhir-cdc:8080": true, "fhir-cdc.fhir.svc:8080": true, "fhir-cdc.fhir.svc.cluster.local.:8080": true, "": true,
		"cdc-1.corp.test:9999": true, "Status.Example.Org": true, "status.example.org.": true,
		"evil.example:8080": false, "127.0.0.1.evil.example": false, "localhost.evil.example:8080": false, "svc.evil.example": false,
		"example.org": false, "a.status.example.org": false, "127.1": false, "evil.example:8080:80": false,
	} {
		for _, path := range []string{"/livez", "/readyz", "/startupz", "/metrics"} {
			if w := askFor(t, s, host, path); w.Code == http.StatusForbidden {
				t.Errorf("GET %s of %q: %d %s: probes and scrapes come by any name", path, host, w.Code, w.Body)
			}
		}
		for _, path := range []string{"/", "/status", "/assets/page.js", "/control/pause", "//metrics", "/metrics/"} {
			w := askFor(t, s, host, path)
			if got := w.Code != http.StatusForbidden; got != allowed {
				t.Errorf("GET %s of %q: %d %s", path, host, w.Code, w.Body)
			}
			if !allowed && (!strings.Contains(w.Body.String(), "http.allowed_hosts") || w.Header().Get("Content-Security-Policy") == "") {
				t.Errorf("GET %s of %q: %v %s", path, host, w.Header(), w.Body)
			}
		}
	}
}

func askFor(t *testing.T, h http.Handler, host, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// The log tells of a refused name once and says which setting allows it; who makes names up
// fills it no further.
func TestRefusedHostsAreLogged(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	s := New(Options{}, views(), NewRegistry(), zap.New(core)).handler()
	for _, host := range []string{"status.hospital.example:8080", "STATUS.hospital.example", "10.0.0.1", "evil.example\x1b[2J"} {
		askFor(t, s, host, "/status")
	}
	var told []string
	for _, e := range logs.All() {
		told = append(told, fmt.Sprint(e.ContextMap()["host"]))
		if !strings.Contains(e.Message, "http.allowed_hosts") {
			t.Errorf("log: %s", e.Message)
		}
	}
	if got, want := strings.Join(told, " "), `"status.hospital.example" "evil.example\x1b[2j"`; got != want {
		t.Errorf("told of %s, want %s", got, want)
	}
	for n := range 100 {
		askFor(t, s, fmt.Sprintf("%d.%s.example", n, strings.Repeat("x", 9000)), "/")
	}
	if logs.Len() != maxRefused {
		t.Errorf("%d names are in the log, want %d", logs.Len(), maxRefused)
	}
}
