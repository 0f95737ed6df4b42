package security_test

import (
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// A right or a login is taken away while the daemon runs, and given back: the daemon
// says what is missing, and every event is there once.
func TestRevokedWhileRunning(t *testing.T) {
	for _, test := range []struct {
		name string
		// as gives the daemon a user of its own, and returns what takes something away
		// from it and gives it back.
		as func(i *installation) (revoke, restore func())
		// exit is the code that the daemon ends with; -1 if it goes on by itself.
		exit int
		// says is in the daemon's log.
		says string
	}{
		{"MongoDB user dropped", func(i *installation) (revoke, restore func()) {
			user, password := "user-"+strings.ToLower(rand.Text()[:8]), rand.Text()
			make := func() { i.mongoUser(i.t, "admin", user, password, readAny()) }
			make()
			i.mongo(i.mongoURI(i.mongoAt(url.UserPassword(user, password), "&authSource=admin")))
			return func() {
				i.check(i.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: "dropUser", Value: user}}).Err())
			}, make
		}, -1, "MongoDB refuses the login"},
		{"MongoDB role revoked", func(i *installation) (revoke, restore func()) {
			user, password := "user-"+strings.ToLower(rand.Text()[:8]), rand.Text()
			i.mongoUser(i.t, "admin", user, password, readAny())
			i.mongo(i.mongoURI(i.mongoAt(url.UserPassword(user, password), "&authSource=admin")))
			change := func(command string) {
				i.check(i.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: command, Value: user}, {Key: "roles", Value: bson.A{readAny()}}}).Err())
			}
			return func() { change("revokeRolesFromUser") }, func() { change("grantRolesToUser") }
		}, exitUsage, "MongoDB"},
		{"Kafka right to write events revoked", func(i *installation) (revoke, restore func()) {
			return i.aclRevoked("Write topic " + i.site.Topics.Change)
		}, -1, "TOPIC_AUTHORIZATION_FAILED"},
		{"Kafka right to write positions revoked", func(i *installation) (revoke, restore func()) {
			return i.aclRevoked("Write topic " + i.site.Topics.Positions)
		}, exitUsage, "AUTHORIZATION"},
		{"Kafka right to the transactional id revoked", func(i *installation) (revoke, restore func()) {
			return i.aclRevoked("Write transactional " + i.site.Name + "/*")
		}, exitUsage, "AUTHORIZATION"},
		{"Kafka user deleted", func(i *installation) (revoke, restore func()) {
			user, password := i.scramUser(i.t)
			i.allowAll(i.t, user)
			i.kafkaAt(listenerClear, sasl("scram-sha-512", user, password)...)
			return func() {
				_, err := harness.Admin(i.t, i.kafka.Brokers).AlterUserSCRAMs(i.ctx, []kadm.DeleteSCRAM{{User: user, Mechanism: kadm.ScramSha512}}, nil)
				i.check(err)
			}, func() { i.setPassword(i.t, user, password) }
		}, -1, "SASL_AUTHENTICATION_FAILED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with("FHIR_CDC_RETRY_MAX_BACKOFF", "1s")
			revoke, restore := test.as(i)
			d := i.start()
			r := i.reader()
			ids := []string{i.write()}
			_, err := r.UntilIDs(i.ctx, ids...)
			i.check(err)
			revoke()
			ids = append(ids, i.write())
			if test.exit >= 0 {
				code, err := d.Wait(i.ctx)
				i.check(err)
				if code != test.exit || !strings.Contains(d.Logs(), test.says) {
					t.Errorf("the daemon ended with code %d, want %d and %q in the log", code, test.exit, test.says)
				}
				restore()
				d = i.start()
			} else {
				i.until("the daemon says what is missing", func() bool { return strings.Contains(d.Logs(), test.says) })
				i.notReady(d)
				restore()
			}
			ids = append(ids, i.write())
			_, err = r.UntilIDs(i.ctx, ids...)
			i.check(err)
			i.stop(d)
			records, err := r.End(i.ctx)
			i.check(err)
			if got := harness.EventIDs(records); len(got) != len(ids) {
				t.Errorf("%d events, want %d", len(got), len(ids))
			}
		})
	}
}

// aclRevoked gives the daemon a user with the documented rights, of which one is taken
// away and given back.
func (i *installation) aclRevoked(right string) (revoke, restore func()) {
	i.t.Helper()
	i.check(i.site.CreateTopics(i.ctx, harness.Admin(i.t, i.kafka.Brokers), 2))
	user, password := i.scramUser(i.t)
	i.allow(i.t, user, documentedACLs(i.t, i.site, "events", "positions")...)
	i.kafkaAt(listenerLogin, sasl("scram-sha-512", user, password)...)
	i.with("FHIR_CDC_TOPICS_CREATE", "")
	return func() {
		results, err := harness.Admin(i.t, i.kafka.Brokers).DeleteACLs(i.ctx, acl(i.t, user, right))
		i.check(err)
		deleted := 0
		for _, r := range results {
			i.check(r.Err)
			deleted += len(r.Deleted)
		}
		if deleted == 0 {
			i.t.Fatalf("the right %q was not there", right)
		}
	}, func() { i.allow(i.t, user, right) }
}
