package publisher

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kzap"
	"go.uber.org/zap"
)

const (
	// dialTimeout is below the time that CheckTopics gives all brokers, so that
	// its error can say what is wrong with one of them.
	dialTimeout = 5 * time.Second
	// metadataMinAge is how soon the client asks again who leads a partition
	// after an error. Its own 5 s would be most of the recovery from a restart
	// of a broker.
	metadataMinAge = time.Second
)

// Connection says how to reach the brokers.
type Connection struct {
	// Brokers are host:port addresses to start from; at least one.
	Brokers []string
	// ClientID names this process in the brokers' logs and quotas; empty means
	// the client's own name.
	ClientID string
	TLS      TLS
	SASL     SASL
}

// TLS says how connections are encrypted.
type TLS struct {
	// Enabled turns encryption on. Nothing else here counts without it.
	Enabled bool
	// CAFile has the PEM certificates that the brokers' must come from; empty
	// means the system's. It is read with each new connection, as the other files are,
	// so that a change needs no restart.
	CAFile string
	// CertFile and KeyFile are this client's own certificate and key in PEM;
	// both or none.
	CertFile, KeyFile string
	// ServerName is the name to expect in the brokers' certificates, for brokers
	// that are reached by another one; empty means that of the address.
	ServerName string
}

// ClientOptions turns a connection into options of the Kafka client, for every
// client that the daemon makes. The client logs to log, which must not be nil:
// no contents of records, and the course of each transaction at debug only. The
// files are read here too, so that a wrong name is an error at start.
func ClientOptions(c Connection, log *zap.Logger) ([]kgo.Opt, error) {
	if len(c.Brokers) == 0 {
		return nil, errors.New("kafka connection: no brokers given")
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.WithLogger(ClientLogger(log)),
		kgo.DialTimeout(dialTimeout),
		kgo.MetadataMinAge(metadataMinAge),
	}
	if c.ClientID != "" {
		opts = append(opts, kgo.ClientID(c.ClientID))
	}
	if c.TLS.Enabled {
		if _, err := c.TLS.config(); err != nil {
			return nil, fmt.Errorf("kafka connection: %w", err)
		}
		opts = append(opts, kgo.Dialer(c.TLS.dial))
	}
	if c.SASL.Enabled {
		mechanism, err := c.SASL.mechanism()
		if err != nil {
			return nil, fmt.Errorf("kafka connection: %w", err)
		}
		opts = append(opts, kgo.SASL(mechanism))
	}
	return opts, nil
}

// ClientLogger is the Kafka clients' logger.
func ClientLogger(log *zap.Logger) kgo.Logger {
	return newClientLog(kzap.New(log, kzap.LevelFn(clientLevel(log))))
}

// clientLevel makes the client one step quieter than the daemon: it reports the
// beginning and end of every transaction at info.
func clientLevel(log *zap.Logger) func() kgo.LogLevel {
	return func() kgo.LogLevel {
		switch core := log.Core(); {
		case core.Enabled(zap.DebugLevel):
			return kgo.LogLevelInfo
		case core.Enabled(zap.WarnLevel):
			return kgo.LogLevelWarn
		case core.Enabled(zap.ErrorLevel):
			return kgo.LogLevelError
		}
		return kgo.LogLevelNone
	}
}

// config is the configuration of one connection, from the files as they are now.
func (t TLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	var err error
	if config.RootCAs, err = authorities(t.CAFile); err != nil {
		return nil, err
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("a TLS certificate needs a key and the other way round: only one of the two files is given")
	}
	if t.CertFile != "" {
		certificate, err := t.certificate()
		if err != nil {
			return nil, err
		}
		// Offered whatever authorities the broker names: that it is refused tells more than
		// that there is none.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return config, nil
}

// authorities reads the certificates to trust; nil for no file means the system's.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read TLS authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read TLS authorities: %s has no PEM certificate", file)
	}
	return pool, nil
}

func (t TLS) certificate() (*tls.Certificate, error) {
	certificate, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read TLS certificate and key: %w", err)
	}
	return &certificate, nil
}
