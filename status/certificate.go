package status

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// certificate is the port's certificate. It is read again when its files change, so that a
// renewal needs no restart. While the new files do not match (one is written after the
// other) or cannot be read, the old certificate serves.
type certificate struct {
	certFile, keyFile string
	log               *zap.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	seen   [2]version
	// failed is why the last reading of the files failed, "" if it did not.
	failed string
}

// version tells one state of a file from the next.
type version struct {
	modified time.Time
	size     int64
}

// newCertificate reads the files, so that a wrong name is an error at the start.
func newCertificate(certFile, keyFile string, log *zap.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// get is called at every handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := [2]version{versionOf(c.certFile), versionOf(c.keyFile)}
	// After a failure the files are read each time: its remedy, such as a right to read the
	// key, need not change their time or size.
	if c.loaded != nil && now == c.seen && c.failed == "" {
		return c.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	switch {
	case err == nil && c.loaded != nil:
		c.log.Info("the status port has read its certificate anew")
	case err != nil && c.loaded == nil:
		return nil, fmt.Errorf("http.tls: read certificate and key: %w", err)
	case err != nil:
		if err.Error() != c.failed {
			c.log.Warn("the status port keeps its old certificate: the new one cannot be used", zap.Error(err))
		}
		c.seen, c.failed = now, err.Error()
		return c.loaded, nil
	}
	c.loaded, c.seen, c.failed = &pair, now, ""
	return c.loaded, nil
}

// versionOf is zero for a missing file.
func versionOf(path string) version {
	info, err := os.Stat(path)
	if err != nil {
		return version{}
	}
	return version{info.ModTime(), info.Size()}
}
