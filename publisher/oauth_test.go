package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// endpoint is a token endpoint that knows one client; tokens are numbered.
func endpoint(t *testing.T, secret func() string, expiresIn int) (address string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		id, given, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("scope") != "a b":
			http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
		case id != "daemon" || given != secret():
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s is wrong"}`, given)
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("token-%d", n), "token_type": "Bearer", "expires_in": expiresIn})
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func bearerOf(t *testing.T, s SASL) *bearer {
	t.Helper()
	s.Enabled, s.Mechanism = true, mechanismOAuthBearer
	b, err := newBearer(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTokensFromTheEndpoint(t *testing.T) {
	secret := "one"
	address, asked := endpoint(t, func() string { return secret }, 3600)
	login := SASL{OAuth: OAuth{TokenEndpoint: address, ClientID: "daemon", ClientSecret: "one", Scopes: []string{"a", "b"}}}
	login.Extensions = map[string]string{"logicalCluster": "lkc-1"}
	given := "one"
	login.Reread = func() (SASL, error) {
		fresh := login
		fresh.Mechanism, fresh.OAuth.ClientSecret = mechanismOAuthBearer, given
		return fresh, nil
	}
	b := bearerOf(t, login)
	first := func() string {
		t.Helper()
		_, first, err := b.Authenticate(t.Context(), "broker")
		if err != nil {
			t.Fatal(err)
		}
		return string(first)
	}
	const with = "n,,\x01auth=Bearer %s\x01logicalCluster=lkc-1\x01\x01"
	for range 2 {
		if got, want := first(), fmt.Sprintf(with, "token-1"); got != want {
			t.Errorf("first message %q, want %q", got, want)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times, want once for logins in a row", asked.Load())
	}
	// Another secret gets a token of its own at once.
	secret, given = "two", "two"
	if got, want := first(), fmt.Sprintf(with, "token-2"); got != want {
		t.Errorf("first message %q, want %q", got, want)
	}
	given = "wrong-hunter2"
	_, _, err := b.Authenticate(t.Context(), "broker")
	if !errors.As(err, new(*refusedClient)) || !strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a wrong secret: %v", err)
	}
}

// A token that is about to expire is not used for another login.
func TestTokensExpire(t *testing.T) {
	address, asked := endpoint(t, func() string { return "s" }, 5)
	b := bearerOf(t, SASL{OAuth: OAuth{TokenEndpoint: address, ClientID: "daemon", ClientSecret: "s", Scopes: []string{"a", "b"}}})
	for range 2 {
		if _, _, err := b.Authenticate(t.Context(), "broker"); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times, want 2", asked.Load())
	}
}

func TestTokenEndpointFails(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "hunter2", http.StatusServiceUnavailable)
	}))
	defer broken.Close()
	moved := httptest.NewServer(http.RedirectHandler(broken.URL, http.StatusTemporaryRedirect))
	defer moved.Close()
	for name, tc := range map[string]struct {
		address string
		final   bool
	}{
		"down for a while": {broken.URL, false},
		"not there":        {"http://127.0.0.1:1/token", false},
		"moved":            {moved.URL, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := OAuth{TokenEndpoint: tc.address, ClientID: "id", ClientSecret: "hunter2"}.get(t.Context())
			if err == nil || strings.Contains(err.Error(), "hunter2") || errors.As(err, new(*refusedClient)) != tc.final {
				t.Errorf("got %v, final: want %v", err, tc.final)
			}
		})
	}
}

// Some endpoints take the client's secret in the body only.
func TestTokenEndpointWithoutBasicLogin(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.PostFormValue("client_id") != "id" || r.PostFormValue("client_secret") != "s" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprint(w, `{"error":"invalid_request"}`)
			return
		}
		_, _ = fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer"}`)
	}))
	defer server.Close()
	token, err := OAuth{TokenEndpoint: server.URL, ClientID: "id", ClientSecret: "s"}.get(t.Context())
	if err != nil || token.AccessToken != "t" {
		t.Errorf("token %v, %v", token, err)
	}
}

func TestBearerRefused(t *testing.T) {
	session, _, err := bearerOf(t, SASL{Token: "hunter2"}).Authenticate(context.Background(), "broker")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = session.Challenge([]byte(`{"status":"invalid_token"}`))
	if !errors.Is(err, kerr.SaslAuthenticationFailed) || !strings.Contains(err.Error(), "invalid_token") {
		t.Errorf("refused: %v", err)
	}
	if done, _, err := session.Challenge(nil); err != nil || !done {
		t.Errorf("accepted: %v, %v", done, err)
	}
}
