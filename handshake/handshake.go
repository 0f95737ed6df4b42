// Package handshake tells a TLS handshake that cannot succeed until an operator
// acts (an unknown authority, a wrong name, a missing or refused certificate) from a
// connection that may come back by itself.
//
// watcher and publisher import it; it imports the standard library only.
package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
)

// Refused tells whether err is a handshake that one of the sides refused, or one
// with a server that does not speak TLS.
func Refused(err error) bool {
	var alert *net.OpError
	return errors.As(err, new(*tls.CertificateVerificationError)) ||
		errors.As(err, new(tls.RecordHeaderError)) ||
		errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError)) ||
		// crypto/tls has no type for an alert from the other side.
		errors.As(err, &alert) && alert.Op == "remote error"
}
