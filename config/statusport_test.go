package config

import (
	"strings"
	"testing"
)

// Whoever asks a daemon needs to know where its port is, and no more.
func TestStatusPort(t *testing.T) {
	for name, opts := range map[string]LoadOptions{
		"nothing set":           {},
		"another part is wrong": {File: write(t, "c.yaml", "delivery: never\nkafka: {borkers: [a:1]}"), Environ: []string{"FHIR_CDC_NAM=x", "MONGO_URL=nowhere"}},
		"the token is away":     {Environ: []string{"FHIR_CDC_HTTP_TOKEN_FILE=/does/not/exist"}},
	} {
		if port, err := StatusPort(opts); err != nil || port.Address != "127.0.0.1:8080" {
			t.Errorf("%s: got %q, %v", name, port.Address, err)
		}
	}
	set := LoadOptions{File: write(t, "c.yaml", "http: {address: ':9090', tls: {cert_file: a, key_file: b}}")}
	if port, err := StatusPort(set); err != nil || port.Address != ":9090" || port.TLS.CertFile != "a" {
		t.Errorf("got %+v, %v", port, err)
	}
	for want, opts := range map[string]LoadOptions{
		"is neither host:port nor off": {Environ: []string{"FHIR_CDC_HTTP_ADDRESS=nowhere"}},
		"did you mean http.address?":   {File: write(t, "c.yaml", "http: {adddress: ':1'}")},
		"is a section":                 {File: write(t, "c.yaml", "http: 8080")},
		"set both or none":             {Environ: []string{"FHIR_CDC_HTTP_TLS_CERT_FILE=a"}},
		"is not there":                 {File: "/does/not/exist.yaml"},
		"is not valid YAML":            {File: write(t, "c.yaml", "a: [")},
		"is not key=value":             {Set: []string{"http.address"}},
	} {
		if _, err := StatusPort(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
