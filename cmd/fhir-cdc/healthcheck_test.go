package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
		if err := healthcheck(t.Context(), a, "readyz", &out); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if out.String() != "ok\nok\n" {
		t.Errorf("printed %q", out.String())
	}
	if err := healthcheck(t.Context(), address, "livez", &out); err == nil || !strings.Contains(err.Error(), "stream main is waiting") {
		t.Errorf("got %v, want what the daemon says", err)
	}
	if err := healthcheck(t.Context(), "off", "readyz", &out); !errors.As(err, new(*usageError)) {
		t.Errorf("got %v for a port that is off", err)
	}
}
