package security_test

import (
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

// mongoUser makes a user in a database, with roles.
func (s *servers) mongoUser(t *testing.T, database, name, password string, roles ...any) {
	t.Helper()
	command := bson.D{{Key: "createUser", Value: name}}
	if password != "" {
		command = append(command, bson.E{Key: "pwd", Value: password})
	}
	if roles == nil {
		roles = bson.A{}
	}
	if err := s.client.Database(database).RunCommand(t.Context(), append(command, bson.E{Key: "roles", Value: roles})).Err(); err != nil {
		t.Fatalf("make MongoDB user %s: %v", name, err)
	}
}

const anyone = "readAnyDatabase"

func readAny() bson.D { return bson.D{{Key: "role", Value: anyone}, {Key: "db", Value: "admin"}} }

// x509 is the login by a certificate: the user's name is the certificate's subject.
func (i *installation) x509(file string) string {
	return i.mongoAt(nil, "&authMechanism=MONGODB-X509&authSource=$external&tls=true&tlsCAFile="+url.QueryEscape(i.files.path("ca.pem"))+
		"&tlsCertificateKeyFile="+url.QueryEscape(i.files.path(file)))
}

func TestMongoDBLogins(t *testing.T) {
	shared.use(t)
	shared.mongoUser(t, "$external", subject(daemonName), "", readAny())
	t.Run("SCRAM over TLS with an authority of one's own", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		user, password := "user-"+strings.ToLower(rand.Text()[:8]), "p@ss/w:rd?"+rand.Text()
		i.mongoUser(t, "admin", user, password, readAny())
		i.mongo(i.mongoURI(i.mongoAt(url.UserPassword(user, password), "&authSource=admin"))).carries()
	})
	t.Run("the FHIR server's variables for name and password", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		user, password := "user-"+strings.ToLower(rand.Text()[:8]), "p@ss/w:rd?"+rand.Text()
		i.mongoUser(t, "admin", user, password, readAny())
		i.mongo(i.mongoURI(i.mongoAt(nil, "&authSource=admin")))
		for _, prefix := range []string{"MONGO", "RESOURCE_HISTORY_MONGO", "AUDIT_EVENT_MONGO", "ACCESS_LOGS_MONGO"} {
			i.with(prefix+"_USERNAME", user, prefix+"_PASSWORD", password)
		}
		i.carries()
	})
	t.Run("X.509", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		i.mongo(i.x509("daemon-both.pem")).carries()
	})
}

func TestMongoDBLoginsRefused(t *testing.T) {
	shared.use(t)
	for _, tc := range []struct {
		name string
		uri  func(*installation) string
		want string
	}{
		{"a wrong password", func(i *installation) string {
			return i.mongoURI(i.mongoAt(url.UserPassword("root", "wrong-hunter2"), "&authSource=admin"))
		}, `authentication failed.*check the MongoDB user name`},
		{"no login", func(i *installation) string { return i.mongoURI(i.mongoAt(nil, "")) }, `requires authentication.*check the MongoDB user name`},
		{"an authority that did not issue", func(i *installation) string {
			return strings.Replace(i.mongoURI(i.mongoDB.URI), "ca.pem", "other-ca.pem", 1)
		}, `no TLS connection to MongoDB at 127\.0\.0\.1:\d+: .*unknown authority.*tlsCAFile`},
		{"a certificate that no user has", func(i *installation) string {
			i.check(i.files.writeClient(i.files.authority, "nobody"))
			return i.x509("nobody-both.pem")
		}, `authentication failed|could not find user`},
		{"a stranger's certificate", func(i *installation) string { return i.x509("stranger-both.pem") }, `\(AuthenticationFailed\) no verified subject name`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := install(t, fhirserver.Options{})
			i.mongo(tc.uri(i)).refused(tc.want)
		})
	}
}
