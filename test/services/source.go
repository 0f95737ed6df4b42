package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// The variables that say where servers come from.
const (
	// EnvSource allows one source only: env, docker or packages.
	EnvSource = "FHIR_CDC_TEST_SERVICES"
	// EnvMongoDBURI is the connection string of a running replica set.
	EnvMongoDBURI = "FHIR_CDC_TEST_MONGODB_URI"
	// EnvMongoDBImage is the image of MongoDB's containers. A test that needs what no container
	// has runs on the packages' version all the same; that the image cannot be had is an error.
	EnvMongoDBImage = "FHIR_CDC_TEST_MONGODB_IMAGE"
	// EnvKafkaBrokers is the comma-separated host:port list of a running Kafka.
	EnvKafkaBrokers = "FHIR_CDC_TEST_KAFKA_BROKERS"
)

// ErrUnavailable is wrapped by the errors of StartMongoDB and StartKafka when no
// allowed source can give the server on this machine: something is not
// installed, not reachable, or can't do what the options ask. Any other error
// means that a server was there and did not work.
var ErrUnavailable = download.ErrUnavailable

const (
	sourceEnv      = "env"
	sourceDocker   = "docker"
	sourcePackages = "packages"
)

// unavailable is an ErrUnavailable with its reason.
func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, fmt.Errorf(format, args...))
}

// sources returns what FHIR_CDC_TEST_SERVICES allows, in the order of preference.
func sources() ([]string, error) {
	all := []string{sourceEnv, sourceDocker, sourcePackages}
	switch only := os.Getenv(EnvSource); {
	case only == "":
		return all, nil
	case slices.Contains(all, only):
		return []string{only}, nil
	default:
		return nil, fmt.Errorf("%s=%q: want one of %s", EnvSource, only, strings.Join(all, ", "))
	}
}

// fromFirst asks the sources one after the other. A source that has nothing to
// give makes way for the next; a source that fails does not, so that a fault is
// seen and not covered by a slower source.
func fromFirst[S any](ctx context.Context, what string, open map[string]func(context.Context) (S, error)) (S, error) {
	var none S
	allowed, err := sources()
	if err != nil {
		return none, err
	}
	var reasons []error
	for _, source := range allowed {
		server, err := open[source](ctx)
		if err == nil {
			return server, nil
		}
		err = fmt.Errorf("%s from %s: %w", what, source, err)
		if !errors.Is(err, ErrUnavailable) {
			return none, err
		}
		reasons = append(reasons, err)
	}
	return none, errors.Join(reasons...)
}
