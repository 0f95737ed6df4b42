package publisher

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The SASL mechanisms, by the names that the FHIR server uses.
const (
	mechanismAWS         = "aws"
	mechanismPlain       = "plain"
	mechanismSCRAM256    = "scram-sha-256"
	mechanismSCRAM512    = "scram-sha-512"
	mechanismOAuthBearer = "oauthbearer"
)

// SASL says how this client logs in. Printing it shows no secret.
type SASL struct {
	// Enabled turns the login on. Nothing else here counts without it.
	Enabled bool
	// Mechanism is one of the mechanisms.
	//
	// aws is MSK IAM: the credentials come from where AWS's libraries look for them (the
	// AWS_* variables and files, a web identity, the container, the instance), asked again
	// at later logins; the region comes from the broker's address, or else from AWS_REGION.
	Mechanism string
	// Username and Password are for plain and SCRAM.
	Username, Password string
	// Token is for oauthbearer with a token from elsewhere.
	Token string
	// OAuth is for oauthbearer with tokens that this client gets by itself.
	OAuth OAuth
	// Extensions are for oauthbearer: names and values that the brokers want to
	// be told beside the token.
	Extensions map[string]string
	// Reread, if set, gives the login as it is now. It is asked at each login, so
	// that a secret that was changed needs no restart; its error is the login's.
	Reread func() (SASL, error)
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

// check returns what the mechanism lacks.
func (s SASL) check() error {
	switch s.Mechanism {
	case mechanismPlain, mechanismSCRAM256, mechanismSCRAM512:
		if s.Username == "" || s.Password == "" {
			return fmt.Errorf("SASL %s needs a user name and a password", s.Mechanism)
		}
	case mechanismOAuthBearer:
		if s.Token == "" && s.OAuth.TokenEndpoint == "" {
			return errors.New("SASL oauthbearer needs a token, or a token endpoint to get tokens from")
		}
	case mechanismAWS: // The first login tells.
	default:
		return fmt.Errorf("SASL mechanism %q is not one of %s, %s, %s, %s, %s", s.Mechanism,
			mechanismAWS, mechanismPlain, mechanismSCRAM256, mechanismSCRAM512, mechanismOAuthBearer)
	}
	return nil
}

// now is the login as it is now.
func (s SASL) now() (SASL, error) {
	if s.Reread == nil {
		return s, nil
	}
	fresh, err := s.Reread()
	if err == nil {
		err = fresh.check()
	}
	if err != nil {
		return SASL{}, fmt.Errorf("read the login again: %w", err)
	}
	return fresh, nil
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	switch s.Mechanism {
	case mechanismPlain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			now, err := s.now()
			return plain.Auth{User: now.Username, Pass: now.Password}, err
		}), nil
	case mechanismSCRAM256:
		return scram.Sha256(s.scram), nil
	case mechanismSCRAM512:
		return scram.Sha512(s.scram), nil
	case mechanismOAuthBearer:
		return newBearer(s)
	default:
		return aws.ManagedStreamingIAM((&awsLogin{}).auth), nil
	}
}

func (s SASL) scram(context.Context) (scram.Auth, error) {
	now, err := s.now()
	return scram.Auth{User: now.Username, Pass: now.Password}, err
}
