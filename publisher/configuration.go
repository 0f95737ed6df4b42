package publisher

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// ConfigurationError says that the brokers answer but refuse, or that a topic is
// missing or unfit: trying again does not help, an operator has to act.
type ConfigurationError struct{ Err error }

func (e *ConfigurationError) Error() string { return e.Err.Error() }

func (e *ConfigurationError) Unwrap() error { return e.Err }

// unfit marks the fault of a topic that is missing or not as it has to be.
type unfit struct{ fault string }

func (e *unfit) Error() string { return e.fault }

// messageTooLarge makes a *ConfigurationError of a broker's refusal of a message for its size: a
// topic's limit is lower than it was at the start. The next start learns of it, and what
// does not fit is recorded as a failure then.
func messageTooLarge(err error) error {
	if errors.Is(err, kerr.MessageTooLarge) {
		return &ConfigurationError{fmt.Errorf("%w (raise the topic's max.message.bytes, and kafka.max_record_bytes if that is lower)", err)}
	}
	return err
}

// configurationFault makes a *ConfigurationError of an error that every further attempt would
// meet too. It returns other errors (brokers out of reach, elections) unchanged.
func configurationFault(err error) error {
	var broker *kerr.Error
	if errors.As(err, new(*unfit)) || (errors.As(err, &broker) && !broker.Retriable) {
		return &ConfigurationError{err}
	}
	return err
}
