package status

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// made are details that say whether ids are shown.
func made(_ context.Context, ids bool) any { return map[string]bool{"ids": ids} }

// detailed asks for the details with an Authorization.
func detailed(t *testing.T, h http.Handler, path, authorization string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// Ids are shown to those who ask for them only.
func TestDetails(t *testing.T) {
	d := controlled(t)
	d.server.opts.Details = made
	h := d.server.handler()
	for path, want := range map[string]string{"/details": `{"ids":false}`, "/details?ids=shown": `{"ids":true}`, "/details?ids=": `{"ids":false}`, "/details?ids=1": `{"ids":false}`} {
		if code, text := detailed(t, h, path, "Bearer "+secret); code != http.StatusOK || text != want {
			t.Errorf("%s: %d %s, want %s", path, code, text, want)
		}
	}
}

// Without the right token there is nothing to see, and nothing is made to be seen.
func TestDetailsNeedTheToken(t *testing.T) {
	d := controlled(t)
	d.server.opts.Details = func(context.Context, bool) any {
		t.Error("details are made for somebody without the token")
		return nil
	}
	h := d.server.handler()
	for _, authorization := range []string{"", "Bearer ", "Bearer " + secret + "0", "Basic " + secret} {
		if code, text := detailed(t, h, "/details", authorization); code != http.StatusUnauthorized || text != `{"error":"The token is missing or wrong."}` {
			t.Errorf("%q: %d %s", authorization, code, text)
		}
	}
	for range controlBurst {
		detailed(t, h, "/details", "Bearer guess")
	}
	if code, _ := detailed(t, h, "/details", "Bearer guess"); code != http.StatusTooManyRequests {
		t.Errorf("code %d for one guess too many", code)
	}
	if code, _ := detailed(t, h, "http://evil.example.org/details", "Bearer "+secret); code != http.StatusForbidden {
		t.Errorf("code %d by a stranger's name", code)
	}
}

// Where no token is set there are no details.
func TestDetailsDoNotExistWithoutAToken(t *testing.T) {
	s := New(Options{Hosts: []string{"example.com"}, Details: made, Controls: Controls{Token: func() string { return "" }}}, views(), NewRegistry(), controlled(t).server.log)
	for _, authorization := range []string{"", "Bearer ", "Bearer " + secret} {
		if code, text := detailed(t, s.handler(), "/details", authorization); code != http.StatusNotFound {
			t.Errorf("%q: %d %s", authorization, code, text)
		}
	}
}
