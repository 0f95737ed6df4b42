package main

import (
	"strings"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/publisher"
)

// kafkaLogin is how to log in to Kafka. Secrets that come from files are read again
// at each login.
func kafkaLogin(cfg *config.Config) publisher.SASL {
	login := saslOf(cfg)
	if cfg.HasFiles() {
		login.Reread = func() (publisher.SASL, error) {
			fresh, _, err := cfg.Refreshed()
			if err != nil {
				return publisher.SASL{}, err
			}
			return saslOf(fresh), nil
		}
	}
	return login
}

func saslOf(cfg *config.Config) publisher.SASL {
	s := cfg.Kafka.SASL
	login := publisher.SASL{
		Enabled: s.Enabled, Mechanism: string(s.Mechanism),
		Username: s.Username, Password: s.Password.Reveal(), Token: s.Token.Reveal(),
		OAuth: publisher.OAuth{
			TokenEndpoint: s.OAuth.TokenEndpoint, ClientID: s.OAuth.ClientID, ClientSecret: s.OAuth.ClientSecret.Reveal(),
			Scopes: s.OAuth.Scopes, CAFile: s.OAuth.CAFile,
		},
		Extensions: map[string]string{},
	}
	for _, e := range s.OAuth.Extensions {
		name, value, _ := strings.Cut(e, "=")
		login.Extensions[name] = value
	}
	return login
}
