package publisher

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// certificates writes an authority and a certificate of it for 127.0.0.1 and for
// a client into files.
func certificates(t *testing.T) (caFile, certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey := newKey()
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"broker.example"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leafKey := newKey()
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return write("ca.pem", "CERTIFICATE", caDER), write("cert.pem", "CERTIFICATE", leafDER), write("key.pem", "EC PRIVATE KEY", keyDER)
}

func TestClientOptionsMutualTLS(t *testing.T) {
	caFile, certFile, keyFile := certificates(t)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	cluster, _ := emptyKafka(t, kfake.SeedTopics(1, eventTopic), kfake.TLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}))
	for _, tc := range []struct {
		name string
		tls  TLS
		want string // "" for success
	}{
		{"with all", TLS{Enabled: true, CAFile: caFile, CertFile: certFile, KeyFile: keyFile}, ""},
		{"by another name", TLS{Enabled: true, CAFile: caFile, CertFile: certFile, KeyFile: keyFile, ServerName: "broker.example"}, ""},
		{"by a wrong name", TLS{Enabled: true, CAFile: caFile, CertFile: certFile, KeyFile: keyFile, ServerName: "other.example"}, "other.example"},
		{"an unknown authority", TLS{Enabled: true, CertFile: certFile, KeyFile: keyFile}, "unknown authority"},
		{"no certificate", TLS{Enabled: true, CAFile: caFile}, "certificate required"},
		{"no encryption", TLS{}, "kafka.tls"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opts, err := ClientOptions(Connection{Brokers: cluster.ListenAddrs(), ClientID: "test", TLS: tc.tls}, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			_, err = CheckTopics(t.Context(), opts, Requirements{Events: []string{eventTopic}})
			if tc.want == "" && err != nil {
				t.Error(err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("CheckTopics: %v; want an error with %q", err, tc.want)
			}
		})
	}
}

func TestClientOptionsLogin(t *testing.T) {
	cluster, _ := emptyKafka(t, kfake.SeedTopics(1, eventTopic), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "user", "secret"), kfake.Superuser("SCRAM-SHA-256", "user", "secret"), kfake.Superuser("SCRAM-SHA-512", "user", "secret"))
	for _, mechanism := range []string{mechanismPlain, mechanismSCRAM256, mechanismSCRAM512} {
		t.Run(mechanism, func(t *testing.T) {
			opts, err := ClientOptions(Connection{
				Brokers: cluster.ListenAddrs(),
				SASL:    SASL{Enabled: true, Mechanism: mechanism, Username: "user", Password: "secret"},
			}, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := CheckTopics(t.Context(), opts, Requirements{Events: []string{eventTopic}}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClientOptionsRefuses(t *testing.T) {
	caFile, certFile, keyFile := certificates(t)
	brokers := []string{"127.0.0.1:9092"}
	for _, tc := range []struct {
		name string
		c    Connection
		want string
	}{
		{"no brokers", Connection{}, "no brokers"},
		{"a missing authority", Connection{Brokers: brokers, TLS: TLS{Enabled: true, CAFile: caFile + "x"}}, "read TLS authorities"},
		{"an authority that is none", Connection{Brokers: brokers, TLS: TLS{Enabled: true, CAFile: keyFile}}, "no PEM certificate"},
		{"a certificate without key", Connection{Brokers: brokers, TLS: TLS{Enabled: true, CertFile: certFile}}, "only one of the two"},
		{"a key that is none", Connection{Brokers: brokers, TLS: TLS{Enabled: true, CertFile: certFile, KeyFile: caFile}}, "read TLS certificate and key"},
		{"an unknown mechanism", Connection{Brokers: brokers, SASL: SASL{Enabled: true, Mechanism: "kerberos"}}, `"kerberos" is not one of`},
		{"no password", Connection{Brokers: brokers, SASL: SASL{Enabled: true, Mechanism: mechanismPlain, Username: "u"}}, "user name and a password"},
		{"no user", Connection{Brokers: brokers, SASL: SASL{Enabled: true, Mechanism: mechanismSCRAM512, Password: "p"}}, "user name and a password"},
		{"no token", Connection{Brokers: brokers, SASL: SASL{Enabled: true, Mechanism: mechanismOAuthBearer}}, "needs a token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := ClientOptions(tc.c, zap.NewNop()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ClientOptions: %v; want an error with %q", err, tc.want)
			}
		})
	}
}

func TestConnectionPrintsNoSecrets(t *testing.T) {
	c := Connection{Brokers: []string{"b:1"}, SASL: SASL{Enabled: true, Mechanism: mechanismPlain, Username: "u", Password: "hunter2", Token: "hunter2"}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{c, &c, c.SASL} {
			if text := fmt.Sprintf(format, v); strings.Contains(text, "hunter2") {
				t.Errorf("%s of %T: %s", format, v, text)
			}
		}
	}
}

// The course of each transaction is for debugging; at info the client would log
// several lines for each batch.
func TestClientLogsTransactionsAtDebugOnly(t *testing.T) {
	for level, want := range map[zapcore.Level]bool{zap.InfoLevel: false, zap.DebugLevel: true} {
		t.Run(level.String(), func(t *testing.T) {
			cluster, _ := fakeKafka(t)
			core, logs := observer.New(level)
			opts, err := ClientOptions(Connection{Brokers: cluster.ListenAddrs()}, zap.New(core))
			if err != nil {
				t.Fatal(err)
			}
			p := newTransactional(t, opts, "one")
			_, err = p.Acquire(t.Context())
			mustBeNew(t, err)
			if err := p.Commit(t.Context(), batch(t, 1000, "marker-of-a-document")); err != nil {
				t.Fatal(err)
			}
			if got := logs.FilterMessageSnippet("transaction").Len() > 0; got != want {
				t.Errorf("transactions logged: %v, want %v", got, want)
			}
			for _, entry := range logs.All() {
				if strings.Contains(fmt.Sprint(entry.Message, entry.ContextMap()), "marker-of-a-document") {
					t.Errorf("the log tells of a record: %s", entry.Message)
				}
			}
		})
	}
}
