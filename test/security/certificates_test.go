package security_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, key, encode("CERTIFICATE", der)}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// issue makes a certificate for 127.0.0.1 and for clients, and its key.
func (a *authority) issue(subject pkix.Name) (certificate, key []byte, err error) {
	return a.issueUntil(subject, time.Now().Add(24*time.Hour))
}

// issueUntil is issue of a certificate that is good until a time.
func (a *authority) issueUntil(subject pkix.Name, end time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8), nil
}

// Common names of clients' certificates; the full subject of each is "CN=" and this,
// with clientOrganization. mongod takes a client of its own organization for a member
// of its cluster.
const (
	daemonName         = "daemon"
	clientOrganization = "clients"
)

// files are the certificates of all tests, in one folder: ca.pem, other-ca.pem (which
// nobody trusts), mongod.pem, daemon.pem, daemon-key.pem, daemon-both.pem, and
// stranger*.pem, issued by the other authority.
type files struct {
	dir       string
	authority *authority
	kafka     struct{ certificate, key []byte }
}

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

func (f *files) write(name string, parts ...[]byte) error {
	var text []byte
	for _, p := range parts {
		text = append(text, p...)
	}
	return os.WriteFile(f.path(name), text, 0o600)
}

func newFiles() (*files, error) {
	dir, err := os.MkdirTemp("", "fhir-cdc-security-")
	if err != nil {
		return nil, err
	}
	f := &files{dir: dir}
	if f.authority, err = newAuthority("trusted"); err != nil {
		return nil, err
	}
	other, err := newAuthority("other")
	if err != nil {
		return nil, err
	}
	certificate, key, err := f.authority.issue(pkix.Name{CommonName: "mongod", Organization: []string{"servers"}})
	if err != nil {
		return nil, err
	}
	if f.kafka.certificate, f.kafka.key, err = f.authority.issue(pkix.Name{CommonName: "kafka"}); err != nil {
		return nil, err
	}
	return f, errors.Join(
		f.write("ca.pem", f.authority.pem), f.write("other-ca.pem", other.pem), f.write("mongod.pem", certificate, key),
		f.writeClient(f.authority, daemonName), f.writeClient(other, "stranger"),
	)
}

// writeClient issues a client's certificate into <name>.pem, <name>-key.pem and
// <name>-both.pem.
func (f *files) writeClient(by *authority, name string) error {
	certificate, key, err := by.issue(pkix.Name{CommonName: name, Organization: []string{clientOrganization}})
	if err != nil {
		return err
	}
	return errors.Join(f.write(name+".pem", certificate), f.write(name+"-key.pem", key), f.write(name+"-both.pem", certificate, key))
}

// subject is a client's distinguished name as MongoDB and Kafka write it.
func subject(name string) string { return "CN=" + name + ",O=" + clientOrganization }
