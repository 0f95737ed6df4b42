package status

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// issue writes a certificate and key of a serial number over the two files.
func issue(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		// Two writes within the clock's tick would look like one.
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Duration(serial)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

// What made the files useless may pass without another time or size of theirs, as a right to
// read them does: they are tried again. Each reason is said once.
func TestCertificateIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	issue(t, certFile, keyFile, 1)
	core, logs := observer.New(zap.WarnLevel)
	c, err := newCertificate(certFile, keyFile, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	issue(t, certFile, keyFile, 2)
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	unchanged, err := os.Stat(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(keyFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(keyFile, time.Time{}, unchanged.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	write(bytes.Repeat([]byte("x"), len(key)))
	for range 3 {
		if got := serial(); got != 1 {
			t.Errorf("serial %d with a key that is none", got)
		}
	}
	if n := logs.Len(); n != 1 {
		t.Errorf("one reason is said %d times", n)
	}
	write(bytes.Repeat([]byte("\n"), len(key)))
	if err := os.Rename(certFile, certFile+".away"); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 1 || logs.Len() != 2 {
		t.Errorf("serial %d, %d warnings of two reasons", got, logs.Len())
	}
	if err := os.Rename(certFile+".away", certFile); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 1 {
		t.Errorf("serial %d with a key that is none", got)
	}
	write(key) // From here on neither time nor size is another one.
	if got := serial(); got != 2 {
		t.Errorf("serial %d after the key can be used", got)
	}
}

// The port serves TLS, takes a renewed certificate up, and keeps the old one while the
// new files do not fit.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	issue(t, certFile, keyFile, 1)
	s := New(Options{Address: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile}, views(), NewRegistry(), zap.NewNop())
	listener, err := s.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	serial := func() int64 {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+listener.Addr().String()+"/livez", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if text, err := io.ReadAll(response.Body); err != nil || strings.TrimSpace(string(text)) != "ok" {
			t.Fatalf("%q, %v", text, err)
		}
		return response.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("serial %d", got)
	}
	issue(t, certFile, keyFile, 2)
	if got := serial(); got != 2 {
		t.Errorf("serial %d after a renewal", got)
	}
	if err := os.WriteFile(keyFile, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 2 {
		t.Errorf("serial %d while the files do not fit", got)
	}
	issue(t, certFile, keyFile, 3)
	if got := serial(); got != 3 {
		t.Errorf("serial %d after they fit again", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	s = New(Options{Address: "127.0.0.1:0", CertFile: filepath.Join(dir, "missing"), KeyFile: keyFile}, views(), NewRegistry(), zap.NewNop())
	if _, err := s.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "http.tls") {
		t.Errorf("got %v for a file that is missing", err)
	}
}
