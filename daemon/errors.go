package daemon

import (
	"errors"
	"fmt"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// PolicyError says that a stream was stopped by the policy on_failure: stop. All
// before the failed change is published, the position is right before it.
type PolicyError struct{ Failure mapper.Failure }

func (e *PolicyError) Error() string {
	return fmt.Sprintf("stopped by events.%s.on_failure: stop: %v, document %s, cluster time %d,%d",
		e.Failure.Kind, e.Failure.Error(), e.Failure.Source.DocumentKey, e.Failure.Source.ClusterTime.T, e.Failure.Source.ClusterTime.I)
}

func (e *PolicyError) Unwrap() error { return &e.Failure }

// errLimitChanged says that a topic's max.message.bytes is another than when the attempt
// began. The next attempt knows the new one.
var errLimitChanged = errors.New("the limit of a topic was changed")

// errCommit says that a batch was not committed, or that it is not known.
var errCommit = errors.New("commit")

// uncommitted tells whether an error has left changes that were read without their events.
func uncommitted(err error) bool {
	return errors.Is(err, errCommit) || errors.Is(err, errDrainTimeout)
}

// final tells whether a restart would meet the same error, so that an operator has
// to see it.
func final(err error) bool {
	return errors.As(err, new(*PolicyError)) || errors.As(err, new(*watcher.Error)) ||
		errors.As(err, new(*publisher.ConfigurationError)) || errors.Is(err, resumetoken.ErrFenced)
}

// refused makes an error that ends the stream of a look-up, or of an access to
// positions, that MongoDB does not allow: trying again would meet the same, and the
// events would wait unseen.
func refused(err error) error {
	if watcher.LoginRefused(err) != nil {
		return &watcher.Error{Class: watcher.Unauthorized, Hint: "check the MongoDB user's login and give it the right (docs/security.md), or switch off what needs it", Err: err}
	}
	return err
}
