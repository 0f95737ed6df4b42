package security_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// The broker's listeners beside the plain one, which is for tests only: who comes by
// it, or by encrypted without a certificate, is ANONYMOUS and may do everything.
const (
	listenerEncrypted = "ENCRYPTED" // TLS
	listenerMutual    = "MUTUAL"    // TLS with clients' certificates
	listenerLogin     = "LOGIN"     // TLS with PLAIN and SCRAM
	listenerClear     = "CLEAR"     // PLAIN and SCRAM without TLS
	listenerBearer    = "BEARER"    // TLS with OAUTHBEARER
)

// plainUser is known to the broker by its configuration, as PLAIN wants it.
const plainUser = "plain-user"

var plainPassword = rand.Text()

func (s *servers) startKafka(ctx context.Context) error {
	jaas := `org.apache.kafka.common.security.plain.PlainLoginModule required user_` + plainUser + `="` + plainPassword + `";`
	scram := `org.apache.kafka.common.security.scram.ScramLoginModule required;`
	properties := map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":           strings.Join([]string{"User:ANONYMOUS", "User:" + plainUser, "User:" + subject(daemonName), "User:" + clientID, "User:" + rotatingClient, "User:" + renewingClient}, ";"),

		"ssl.keystore.type":              "PEM",
		"ssl.keystore.certificate.chain": string(s.files.kafka.certificate),
		"ssl.keystore.key":               string(s.files.kafka.key),
		"ssl.truststore.type":            "PEM",
		"ssl.truststore.certificates":    string(s.files.authority.pem),

		"listener.name.mutual.ssl.client.auth": "required",

		"listener.name.bearer.sasl.enabled.mechanisms":                         "OAUTHBEARER",
		"listener.name.bearer.oauthbearer.sasl.jaas.config":                    `org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;`,
		"listener.name.bearer.oauthbearer.sasl.server.callback.handler.class":  "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
		"listener.name.bearer.oauthbearer.sasl.oauthbearer.jwks.endpoint.url":  s.identity.server.URL + "/jwks",
		"listener.name.bearer.oauthbearer.sasl.oauthbearer.expected.audience":  audience,
		"listener.name.bearer.oauthbearer.sasl.oauthbearer.expected.issuer":    s.identity.server.URL,
		"listener.name.bearer.oauthbearer.sasl.oauthbearer.clock.skew.seconds": "0",

		// A refused login is answered at once.
		"connection.failed.authentication.delay.ms": "0",
	}
	for _, listener := range []string{listenerLogin, listenerClear} {
		prefix := "listener.name." + strings.ToLower(listener) + "."
		properties[prefix+"sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
		properties[prefix+"plain.sasl.jaas.config"] = jaas
		properties[prefix+"scram-sha-256.sasl.jaas.config"] = scram
		properties[prefix+"scram-sha-512.sasl.jaas.config"] = scram
	}
	// How long a login holds: short where secrets change in a test.
	properties["listener.name.clear.scram-sha-512.connections.max.reauth.ms"] = "2000"
	properties["listener.name.bearer.oauthbearer.connections.max.reauth.ms"] = "2000"
	var err error
	s.kafka, err = services.StartKafka(ctx, services.KafkaOptions{
		Listeners: []services.KafkaListener{
			{Name: listenerEncrypted, Protocol: "SSL"},
			{Name: listenerMutual, Protocol: "SSL"},
			{Name: listenerLogin, Protocol: "SASL_SSL"},
			{Name: listenerClear, Protocol: "SASL_PLAINTEXT"},
			{Name: listenerBearer, Protocol: "SASL_SSL"},
		},
		Properties:       properties,
		SystemProperties: map[string]string{"org.apache.kafka.sasl.oauthbearer.allowed.urls": s.identity.server.URL + "/jwks"},
	})
	return err
}

// scramUser makes a user of its own for both SCRAM mechanisms; it may do nothing yet.
func (s *servers) scramUser(t *testing.T) (name, password string) {
	t.Helper()
	name, password = "user-"+strings.ToLower(rand.Text()[:8]), rand.Text()
	s.setPassword(t, name, password)
	return name, password
}

// setPassword makes a SCRAM user or changes its password.
func (s *servers) setPassword(t *testing.T, name, password string) {
	t.Helper()
	admin := harness.Admin(t, s.kafka.Brokers)
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		// One request may name a user once only.
		altered, err := admin.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: name, Mechanism: mechanism, Iterations: 4096, Password: password}})
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			t.Fatalf("set the password of Kafka user %s: %v", name, err)
		}
	}
	// The broker takes it up a little later.
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	err := s.login(ctx, name, password)
	for err != nil && ctx.Err() == nil {
		err = s.login(ctx, name, password)
	}
	if err != nil {
		t.Fatalf("log in with the new password of Kafka user %s: %v", name, err)
	}
}

// login logs a user in with SCRAM.
func (s *servers) login(ctx context.Context, user, password string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Listeners[listenerClear]), kgo.RequestRetries(0),
		kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Ping(ctx)
}

// allow gives a principal rights, each written "<operation> <resource> <name>" with a
// resource of topic, group or transactional; a name that ends with * is a prefix.
func (s *servers) allow(t *testing.T, user string, rights ...string) {
	t.Helper()
	admin := harness.Admin(t, s.kafka.Brokers)
	for _, right := range rights {
		created, err := admin.CreateACLs(t.Context(), acl(t, user, right))
		for _, c := range created {
			if err == nil {
				err = c.Err
			}
		}
		if err != nil {
			t.Fatalf("allow %s to %s: %v", user, right, err)
		}
	}
	s.awaitRights(t, user, len(rights))
}

// awaitRights waits until the broker knows so many rights of a user: it takes them up a
// little later.
func (s *servers) awaitRights(t *testing.T, user string, rights int) {
	t.Helper()
	admin := harness.Admin(t, s.kafka.Brokers)
	all := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").ResourcePatternType(kadm.ACLPatternAny).AnyResource().Operations(kadm.OpAny)
	for described := 0; described < rights; {
		results, err := admin.DescribeACLs(t.Context(), all)
		if err != nil {
			t.Fatalf("ask for the rights of %s: %v", user, err)
		}
		described = 0
		for _, r := range results {
			described += len(r.Described)
		}
	}
}

func acl(t *testing.T, user, right string) *kadm.ACLBuilder {
	t.Helper()
	var operation, resource, name string
	if _, err := fmt.Sscan(right, &operation, &resource, &name); err != nil {
		t.Fatalf("right %q: %v", right, err)
	}
	b := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral)
	if prefix, found := strings.CutSuffix(name, "*"); found {
		name, b = prefix, b.ResourcePatternType(kadm.ACLPatternPrefixed)
	}
	switch resource {
	case "topic":
		b = b.Topics(name)
	case "group":
		b = b.Groups(name)
	case "transactional":
		b = b.TransactionalIDs(name)
	default:
		t.Fatalf("right %q names no known resource", right)
	}
	operations := map[string]kadm.ACLOperation{
		"Read": kadm.OpRead, "Write": kadm.OpWrite, "Describe": kadm.OpDescribe, "DescribeConfigs": kadm.OpDescribeConfigs, "Create": kadm.OpCreate,
	}
	op, known := operations[operation]
	if !known {
		t.Fatalf("right %q names no known operation", right)
	}
	return b.Operations(op)
}

// allowAll lets a user do what it likes with topics, groups and transactions.
func (s *servers) allowAll(t *testing.T, user string) {
	t.Helper()
	b := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Topics("*").Groups("*").TransactionalIDs("*").Operations(kadm.OpAll)
	created, err := harness.Admin(t, s.kafka.Brokers).CreateACLs(t.Context(), b)
	for _, c := range created {
		if err == nil {
			err = c.Err
		}
	}
	if err != nil {
		t.Fatalf("allow %s everything: %v", user, err)
	}
	s.awaitRights(t, user, len(created))
}
