package publisher

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The SASL mechanisms, by the names that the FHIR server uses.
const (
	MechanismAWS         = "aws"
	MechanismPlain       = "plain"
	MechanismSCRAM256    = "scram-sha-256"
	MechanismSCRAM512    = "scram-sha-512"
	MechanismOAuthBearer = "oauthbearer"
)

// SASL says how this client logs in. Printing it shows no secret.
type SASL struct {
	// Enabled turns the login on. Nothing else here counts without it.
	Enabled bool
	// Mechanism is one of the Mechanism constants.
	//
	// aws is MSK IAM: the credentials come from AWS_ACCESS_KEY_ID,
	// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, read again with each login;
	// the region comes from the broker's address, or else from AWS_REGION.
	Mechanism string
	// Username and Password are for plain and SCRAM.
	Username, Password string
	// Token is for oauthbearer.
	Token string
	// Getenv reads the environment; nil means os.Getenv.
	Getenv func(string) string
}

// String names the mechanism only.
func (s SASL) String() string {
	if !s.Enabled {
		return "SASL off"
	}
	return "SASL " + s.Mechanism
}

// GoString is String, for %#v.
func (s SASL) GoString() string { return s.String() }

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case MechanismPlain, MechanismSCRAM256, MechanismSCRAM512:
		if s.Username == "" || s.Password == "" {
			return nil, fmt.Errorf("SASL %s needs a user name and a password", s.Mechanism)
		}
	}
	switch s.Mechanism {
	case MechanismPlain:
		return plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism(), nil
	case MechanismSCRAM256:
		return scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism(), nil
	case MechanismSCRAM512:
		return scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism(), nil
	case MechanismOAuthBearer:
		if s.Token == "" {
			return nil, errors.New("SASL oauthbearer needs a token")
		}
		return oauth.Auth{Token: s.Token}.AsMechanism(), nil
	case MechanismAWS:
		if _, err := s.awsCredentials(); err != nil {
			return nil, err
		}
		return aws.ManagedStreamingIAM(func(context.Context) (aws.Auth, error) { return s.awsCredentials() }), nil
	}
	return nil, fmt.Errorf("SASL mechanism %q is not one of %s, %s, %s, %s, %s", s.Mechanism,
		MechanismAWS, MechanismPlain, MechanismSCRAM256, MechanismSCRAM512, MechanismOAuthBearer)
}

func (s SASL) awsCredentials() (aws.Auth, error) {
	getenv := s.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	auth := aws.Auth{
		AccessKey:    getenv("AWS_ACCESS_KEY_ID"),
		SecretKey:    getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: getenv("AWS_SESSION_TOKEN"),
	}
	if auth.AccessKey == "" || auth.SecretKey == "" {
		return aws.Auth{}, errors.New("SASL aws needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment (and AWS_SESSION_TOKEN with temporary credentials)")
	}
	return auth, nil
}
