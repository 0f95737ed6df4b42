package installation

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// UsageError says that the command line is wrong, or a setting that turns out to be wrong only
// in use.
type UsageError struct{ message string }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// Error returns the message.
func (e *UsageError) Error() string { return e.message }

// Misconfigured tells whether an error stays until somebody changes the command line, the
// configuration, or a right: to start again does not help.
func Misconfigured(err error) bool {
	for _, kind := range []any{new(*config.Error), new(*UsageError), new(*publisher.ConfigurationError), new(*replicas.Refused)} {
		if errors.As(err, kind) {
			return true
		}
	}
	var stream *watcher.Error
	switch {
	case !errors.As(err, &stream):
		return watcher.LoginRefused(err) != nil
	case stream.Class == watcher.HistoryLost:
		return false
	}
	return stream.Class != watcher.TooLarge || watcher.LoginRefused(err) != nil
}

// IsRefused tells an error that does not pass by itself from a server that does not answer.
func IsRefused(err error) bool {
	return Misconfigured(err) || errors.As(err, new(*watcher.Error)) ||
		errors.Is(err, kerr.SaslAuthenticationFailed) || errors.Is(err, kerr.UnsupportedSaslMechanism)
}
