package security_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// Every kind of login to Kafka carries events.
func TestKafkaLogins(t *testing.T) {
	shared.use(t)
	user, password := shared.scramUser(t)
	shared.allowAll(t, user)
	for _, tc := range []struct {
		name, listener string
		env            []string
	}{
		{"TLS with an authority of one's own", listenerEncrypted, nil},
		{"a certificate", listenerMutual, []string{
			"FHIR_CDC_KAFKA_TLS_CERT_FILE", shared.files.path("daemon.pem"), "FHIR_CDC_KAFKA_TLS_KEY_FILE", shared.files.path("daemon-key.pem"),
		}},
		{"PLAIN", listenerLogin, sasl("plain", plainUser, plainPassword)},
		{"SCRAM-SHA-256 without TLS", listenerClear, sasl("scram-sha-256", user, password)},
		{"SCRAM-SHA-512", listenerLogin, sasl("scram-sha-512", user, password)},
		{"OAUTHBEARER with a token", listenerBearer, bearer("FHIR_CDC_KAFKA_SASL_TOKEN", shared.identity.token(clientID, time.Hour))},
		{"OAUTHBEARER with client credentials", listenerBearer, clientCredentials(clientSecret)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			install(t, fhirserver.Options{}).kafkaAt(tc.listener, tc.env...).carries()
		})
	}
}

// A login that is refused ends the daemon at once, with one error that says which
// server refuses what.
func TestKafkaLoginsRefused(t *testing.T) {
	shared.use(t)
	user, password := shared.scramUser(t)
	const refuses = `brokers at 127\.0\.0\.1:\d+ refuse the login`
	for _, tc := range []struct {
		name, listener string
		env            []string
		want           string
	}{
		{"an authority that did not issue", listenerEncrypted, []string{"FHIR_CDC_KAFKA_TLS_CA_FILE", shared.files.path("other-ca.pem")}, `no TLS connection to the brokers at .*kafka\.tls.*unknown authority`},
		{"another name", listenerEncrypted, []string{"FHIR_CDC_KAFKA_TLS_SERVER_NAME", "broker.test"}, `no TLS connection.*broker\.test`},
		{"no certificate", listenerMutual, nil, `no TLS connection.*certificate required|bad certificate`},
		{"a stranger's certificate", listenerMutual, []string{
			"FHIR_CDC_KAFKA_TLS_CERT_FILE", shared.files.path("stranger.pem"), "FHIR_CDC_KAFKA_TLS_KEY_FILE", shared.files.path("stranger-key.pem"),
		}, `no TLS connection.*certificate`},
		{"TLS where it is off here", listenerEncrypted, []string{"KAFKA_SSL", "0", "FHIR_CDC_KAFKA_TLS_CA_FILE", ""}, `brokers at .* speak TLS, and kafka\.tls\.enabled is false`},
		{"no TLS where it is on here", listenerClear, append(sasl("plain", plainUser, plainPassword), "KAFKA_SSL", "1"), `does not speak TLS, and kafka\.tls\.enabled is true`},
		{"PLAIN", listenerLogin, sasl("plain", plainUser, "wrong"), refuses},
		{"SCRAM-SHA-256", listenerClear, sasl("scram-sha-256", user, "wrong"), refuses},
		{"SCRAM-SHA-512, no such user", listenerLogin, sasl("scram-sha-512", "nobody", password), refuses},
		{"a mechanism that the listener does not know", listenerBearer, sasl("plain", plainUser, plainPassword), `do not know the SASL mechanism`},
		{"OAUTHBEARER, a token that has expired", listenerBearer, bearer("FHIR_CDC_KAFKA_SASL_TOKEN", shared.identity.token(clientID, -time.Minute)), refuses + `.*token`},
		{"OAUTHBEARER, a wrong secret", listenerBearer, clientCredentials("wrong-hunter2"), `token endpoint .*401 "invalid_client".*kafka\.sasl\.oauth`},
		{"OAUTHBEARER, an endpoint of an authority that is not trusted", listenerBearer, append(clientCredentials(clientSecret), "FHIR_CDC_KAFKA_SASL_OAUTH_CA_FILE", shared.files.path("other-ca.pem")), `token endpoint .*unknown authority`},
		{"OAUTHBEARER, a wrong scope", listenerBearer, append(clientCredentials(clientSecret), "FHIR_CDC_KAFKA_SASL_OAUTH_SCOPES", "other"), `token endpoint .*400 "invalid_scope"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			install(t, fhirserver.Options{}).kafkaAt(tc.listener, tc.env...).refused(tc.want)
		})
	}
}

func bearer(more ...string) []string {
	return append([]string{"KAFKA_SASL", "true", "KAFKA_SASL_MECHANISM", "oauthbearer"}, more...)
}

func clientCredentials(secret string) []string {
	return bearer("FHIR_CDC_KAFKA_SASL_OAUTH_TOKEN_ENDPOINT", shared.identity.endpoint(), "FHIR_CDC_KAFKA_SASL_OAUTH_CLIENT_ID", clientID,
		"FHIR_CDC_KAFKA_SASL_OAUTH_CLIENT_SECRET", secret, "FHIR_CDC_KAFKA_SASL_OAUTH_SCOPES", scope,
		"FHIR_CDC_KAFKA_SASL_OAUTH_CA_FILE", shared.files.path("ca.pem"))
}

// secretFile writes a secret into a file of the test's own.
func secretFile(t *testing.T, name, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	replace(t, path, secret)
	return path
}

// replace changes a secret as orchestrators do: a new file takes the old one's name.
func replace(t *testing.T, path, secret string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}
