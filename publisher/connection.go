package publisher

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/plugin/kzap"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/handshake"
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
	// that are reached by another one; empty means the name in the address.
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

// newClient makes a client of the options that reach the brokers and of some of its own.
func newClient(options []kgo.Opt, own ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(slices.Concat(options, own)...)
	if err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	return client, nil
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
		// The client offers its certificate whichever authorities the broker names: the error
		// of a refused certificate tells more than that of a missing one.
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

// TLSRefused tells whether a broker and this client do not come to a TLS connection, as
// when its certificate is of an authority that is not known here.
func TLSRefused(err error) bool { return handshake.Refused(err) }

// dial connects with the authorities and the certificate that the files hold now, so that
// neither a renewed certificate nor an authority that is replaced needs a restart. A file
// that cannot be read fails this connection only.
func (t TLS) dial(ctx context.Context, network, address string) (net.Conn, error) {
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: config}).DialContext(ctx, network, address)
	if errors.Is(err, io.EOF) {
		return nil, &closedHandshake{address, err}
	}
	return conn, err //nolint:wrapcheck // the client tells errors of the network by their types.
}

// closedHandshake says that a broker ended a connection instead of answering the
// beginning of TLS: it does not speak it, or is about to stop.
type closedHandshake struct {
	address string
	error
}

func (e *closedHandshake) Unwrap() error { return e.error }

// plainText tells whether a broker answers without TLS.
func plainText(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(dialTimeout)) != nil {
		return false
	}
	// The oldest form of the first question of every client: length, kind, version, a
	// number that the answer repeats, and no client id.
	const number = 0x66686972
	ask := binary.BigEndian.AppendUint32(nil, 10)
	ask = binary.BigEndian.AppendUint16(ask, uint16(kmsg.ApiVersions.Int16()))
	ask = binary.BigEndian.AppendUint16(ask, 0)
	ask = binary.BigEndian.AppendUint32(ask, number)
	ask = binary.BigEndian.AppendUint16(ask, 0xffff)
	if _, err := conn.Write(ask); err != nil {
		return false
	}
	var answer [8]byte
	_, err = io.ReadFull(conn, answer[:])
	return err == nil && binary.BigEndian.Uint32(answer[4:]) == number
}

// tlsMismatch says that one side speaks TLS and the other does not, nil if it is not known
// that this is what is wrong with the connection.
func tlsMismatch(ctx context.Context, err error) error {
	var closed *closedHandshake
	switch {
	case strings.Contains(err.Error(), "tls alert record"): // The client has no type for it.
		return fmt.Errorf("they speak TLS, and kafka.tls.enabled is false: set it to true (KAFKA_SSL=true), or give the address of a listener without TLS: %w", err)
	case errors.As(err, &closed) && plainText(ctx, closed.address):
		return fmt.Errorf("%s does not speak TLS, and kafka.tls.enabled is true: set it to false (KAFKA_SSL=false), or give the address of a listener with TLS: %w", closed.address, err)
	}
	return nil
}
