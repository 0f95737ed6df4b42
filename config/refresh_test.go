package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secretFile writes a file and returns its path.
func secretFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRefreshed(t *testing.T) {
	password, uri, token := secretFile(t, "password", "first\n"), secretFile(t, "uri", "mongodb://db:27017/?appName=a b"), secretFile(t, "token", "t1")
	cfg := mustLoad(t, LoadOptions{Environ: []string{
		"ENABLE_EVENTS_KAFKA=1", "KAFKA_URLS=b:9092", "MONGO_URL_FILE=" + uri, "MONGO_USERNAME=u", "MONGO_PASSWORD_FILE=" + password,
		"FHIR_CDC_KAFKA_SASL_TOKEN_FILE=" + token,
	}})
	if !cfg.HasFiles() {
		t.Error("HasFiles is false")
	}
	if _, changed, err := cfg.Refreshed(); err != nil || changed {
		t.Errorf("nothing has changed: %v, %v", changed, err)
	}
	rewrite(t, password, "second/@\r\n")
	rewrite(t, uri, "mongodb://db2:27017/?appName=a c")
	fresh, changed, err := cfg.Refreshed()
	if err != nil || !changed {
		t.Fatalf("Refreshed: %v, %v", changed, err)
	}
	if got, want := fresh.MongoDB.Main().URI.Reveal(), "mongodb://u:second%2F%40@db2:27017/?appName=a%20c"; got != want {
		t.Errorf("URI %s, want %s", got, want)
	}
	if got := fresh.Kafka.SASL.Token.Reveal(); got != "t1" {
		t.Errorf("the token that stayed is %q", got)
	}
	if got := cfg.MongoDB.Password.Reveal(); got != "first" {
		t.Errorf("the old configuration has password %q", got)
	}
	if again, changed, err := fresh.Refreshed(); err != nil || changed || again.MongoDB.Password.Reveal() != "second/@" {
		t.Errorf("refreshed twice: %v, %v", changed, err)
	}
}

// A file that is being written is an error, and never a password that is empty.
func TestRefreshedRefuses(t *testing.T) {
	uri := secretFile(t, "uri", "mongodb://u:hunter2@db:27017")
	cfg := mustLoad(t, LoadOptions{Environ: []string{"ENABLE_EVENTS_KAFKA=1", "KAFKA_URLS=b:9092", "MONGO_URL_FILE=" + uri}})
	for text, want := range map[string]string{"": "names an empty file", "hunter2": "is not a MongoDB URI"} {
		rewrite(t, uri, text)
		_, _, err := cfg.Refreshed()
		if !errors.As(err, new(*Error)) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "MONGO_URL_FILE") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("file %q: %v", text, err)
		}
	}
	if err := os.Remove(uri); err != nil {
		t.Fatal(err)
	}
	if _, _, err := cfg.Refreshed(); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("no file: %v", err)
	}
	if !mustLoad(t, LoadOptions{Environ: with("MONGO_URL=mongodb://db/?tls=true&tlsCertificateKeyFile=/c.pem")}).HasFiles() {
		t.Error("HasFiles is false with a certificate")
	}
	if mustLoad(t, LoadOptions{Environ: with()}).HasFiles() {
		t.Error("HasFiles is true without any")
	}
}

func TestOAuthFaults(t *testing.T) {
	bearer := []string{"kafka.sasl.enabled=true", "kafka.sasl.mechanism=oauthbearer"}
	const endpoint = "kafka.sasl.oauth.token_endpoint=https://login.test/token"
	const id, secret = "kafka.sasl.oauth.client_id=id", "kafka.sasl.oauth.client_secret=hunter2"
	for _, tc := range []struct {
		name string
		set  []string
		want string // "" for none
	}{
		{"a token", []string{"kafka.sasl.token=t"}, ""},
		{"client credentials", []string{endpoint, id, secret, "kafka.sasl.oauth.extensions=logicalCluster=lkc-1,identityPoolId=pool-1"}, ""},
		{"neither", nil, "kafka.sasl.oauth.token_endpoint: is not set"},
		{"both", []string{endpoint, id, secret, "kafka.sasl.token=t"}, "unset one of them"},
		{"no id", []string{endpoint, secret}, "kafka.sasl.oauth.client_id: is not set"},
		{"no secret", []string{endpoint, id}, "kafka.sasl.oauth.client_secret: is not set"},
		{"no address", []string{"kafka.sasl.oauth.token_endpoint=login.test", id, secret}, "is not an address such as"},
		{"a secret in the address", []string{"kafka.sasl.oauth.token_endpoint=https://id:hunter2@login.test", id, secret}, "have keys of their own"},
		{"an extension without value", []string{endpoint, id, secret, "kafka.sasl.oauth.extensions=x"}, "name=value"},
		{"an extension called auth", []string{endpoint, id, secret, "kafka.sasl.oauth.extensions=auth=x"}, "auth is the name of the token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(LoadOptions{Environ: with(), Set: append(tc.set, bearer...)})
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2")):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
