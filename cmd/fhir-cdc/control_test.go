package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestControlOfAnotherProgram: what is no answer of a daemon is no success, and nobody is sent
// on with the token.
func TestControlOfAnotherProgram(t *testing.T) {
	const token = "hunter2-hunter2-hunter2"
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("sent on to %s with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer other.Close()
	for what, handler := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>\n")) },
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		},
	} {
		port := httptest.NewServer(handler)
		got := command(t, []string{"FHIR_CDC_HTTP_TOKEN=" + token, "FHIR_CDC_HTTP_ADDRESS=" + strings.TrimPrefix(port.URL, "http://")}, "pause", "main")
		if got.code != exitFailure || !strings.Contains(got.stderr, "not done: "+port.URL+" answers with") || strings.Contains(got.stdout+got.stderr, token) {
			t.Errorf("%s: exit code %d, %q, %q", what, got.code, got.stdout, got.stderr)
		}
		port.Close()
	}
}

// TestTokenInTheClear: a token that leaves the host without TLS is warned of. The address is
// one for documents, where nobody is.
func TestTokenInTheClear(t *testing.T) {
	for address, warned := range map[string]bool{"192.0.2.1:1": true, "127.0.0.1:1": false, "localhost:1": false, ":1": false, "[::1]:1": false} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		var stderr strings.Builder
		execute(ctx, []string{"pause", "main"}, []string{"FHIR_CDC_HTTP_TOKEN=hunter2-hunter2-hunter2", "FHIR_CDC_HTTP_ADDRESS=" + address}, io.Discard, &stderr)
		cancel()
		if strings.Contains(stderr.String(), "without TLS") != warned {
			t.Errorf("%s: %s", address, stderr.String())
		}
	}
}

// TestControlInterrupted: Ctrl-C is not taken for a daemon that is not there.
func TestControlInterrupted(t *testing.T) {
	for what, args := range map[string][]string{"the daemon may have done it": {"pause", "main"}, "interrupted": {"status"}} {
		ctx, interrupt := context.WithCancel(t.Context())
		port := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client leave
			interrupt()
			<-r.Context().Done()
		}))
		var stderr strings.Builder
		code := execute(ctx, args, []string{"FHIR_CDC_HTTP_TOKEN=hunter2-hunter2-hunter2", "FHIR_CDC_HTTP_ADDRESS=" + strings.TrimPrefix(port.URL, "http://")}, io.Discard, &stderr)
		if code != exitFailure || !strings.Contains(stderr.String(), what) || strings.Contains(stderr.String(), "no daemon") {
			t.Errorf("%v: exit code %d, %s", args, code, stderr.String())
		}
		interrupt()
		port.Close()
	}
}

// TestWatchedJSONStaysJSON: a daemon that does not answer for a while is no line of the output.
func TestWatchedJSONStaysJSON(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var asked atomic.Int32
	port := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"name": "n"})
		time.AfterFunc(200*time.Millisecond, interrupt)
	}))
	defer port.Close()
	var stdout, stderr strings.Builder
	code := execute(ctx, []string{"status", "--watch", "--output", "json"}, []string{"FHIR_CDC_HTTP_ADDRESS=" + strings.TrimPrefix(port.URL, "http://")}, &stdout, &stderr)
	if !json.Valid([]byte(stdout.String())) || !strings.Contains(stderr.String(), "503") {
		t.Errorf("exit code %d, %q, %q", code, stdout.String(), stderr.String())
	}
}

// TestStatusWithoutStreams: a process that waits at its start has no streams, and no table of them.
// That it is not ready shows in the exit code, whatever the form.
func TestStatusWithoutStreams(t *testing.T) {
	for _, test := range []struct {
		ready bool
		args  []string
		code  exitCode
		says  string
	}{
		{false, []string{"status"}, exitFailure, "NOT READY"},
		{false, []string{"status", "--output", "json"}, exitFailure, `"ready": false`},
		{true, []string{"status"}, exitOK, "READY"},
		{true, []string{"status", "--output", "json"}, exitOK, `"ready": true`},
	} {
		port := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"name": "n", "ready": test.ready})
		}))
		var stdout, stderr strings.Builder
		code := execute(t.Context(), test.args, []string{"FHIR_CDC_HTTP_ADDRESS=" + strings.TrimPrefix(port.URL, "http://")}, &stdout, &stderr)
		port.Close()
		if code != test.code || !strings.Contains(stdout.String(), test.says) || strings.Contains(stdout.String(), "STREAM") || (stderr.Len() > 0) == test.ready {
			t.Errorf("ready %v, %v: exit code %d, %q, %q", test.ready, test.args, code, stdout.String(), stderr.String())
		}
	}
}
