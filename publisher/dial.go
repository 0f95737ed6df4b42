package publisher

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/handshake"
)

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

// misfit says that one side speaks TLS and the other does not, nil if it is not known
// that this is what is wrong with the connection.
func misfit(ctx context.Context, err error) error {
	var closed *closedHandshake
	switch {
	case strings.Contains(err.Error(), "tls alert record"): // The client has no type for it.
		return fmt.Errorf("they speak TLS, and kafka.tls.enabled is false: set it to true (KAFKA_SSL=true), or give the address of a listener without TLS: %w", err)
	case errors.As(err, &closed) && plainText(ctx, closed.address):
		return fmt.Errorf("%s does not speak TLS, and kafka.tls.enabled is true: set it to false (KAFKA_SSL=false), or give the address of a listener with TLS: %w", closed.address, err)
	}
	return nil
}
