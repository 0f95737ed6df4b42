package security_test

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// A process that lacks a right in MongoDB, to open a stream or for a look-up, takes nothing
// from the one that carries the stream.
func TestRightsAreSeenBeforeJoining(t *testing.T) {
	i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).with("FHIR_CDC_INSTANCE", "owner")
	i.check(i.site.CreateTopics(i.ctx, harness.Admin(i.t, i.kafka.Brokers), 2))
	owner, r := i.start(), i.reader()
	ids := []string{i.write()}
	_, err := r.UntilIDs(i.ctx, ids...)
	i.check(err)
	i.with("FHIR_CDC_INSTANCE", "unable")
	m := modes()[0]
	all := documentedPrivileges(t, i.site, m.roles...)
	for _, less := range all {
		i.grant(documentedACLs(t, i.site, m.acls...), without(all, less)).run(m).refused("(Unauthorized|not authorized)", less.action)
	}
	ids = append(ids, i.write())
	_, err = r.UntilIDs(i.ctx, ids...)
	i.check(err)
	if n := strings.Count(owner.Logs(), "stream acquired"); n != 1 || strings.Contains(owner.Logs(), "streams handed over") {
		t.Errorf("the owner has acquired the stream %d times, want once", n)
	}
	i.stop(owner)
}

// A stand-by whose MongoDB user is dropped is not ready and says so; the stream goes to one
// that can carry it. Once the user is there again, the stand-by takes over.
func TestStandByLosesItsLogin(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s")
	able := i.env["MONGO_URL"]
	user, password := "user-"+strings.ToLower(rand.Text()[:8]), rand.Text()
	i.mongoUser(t, "admin", user, password, readAny())
	owner := i.with("FHIR_CDC_INSTANCE", "owner").start()
	r := i.reader()
	ids := []string{i.write()}
	_, err := r.UntilIDs(i.ctx, ids...)
	i.check(err)
	// Of two that carry nothing the group would choose the first by name.
	refused := i.with("FHIR_CDC_INSTANCE", "a").mongo(i.mongoURI(i.mongoAt(url.UserPassword(user, password), "&authSource=admin"))).standBy()
	good := i.with("FHIR_CDC_INSTANCE", "b").mongo(able).standBy()

	i.check(i.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: "dropUser", Value: user}}).Err())
	i.until("the stand-by says that it could not take over", func() bool {
		response, err := get(i.ctx, i.statusURL(refused)+"/readyz")
		return err == nil && response.status == http.StatusServiceUnavailable && strings.Contains(response.body, "this process could not take it over") &&
			strings.Contains(response.body, "check the MongoDB user name")
	})
	i.stop(owner)
	ids = append(ids, i.write())
	_, err = r.UntilIDs(i.ctx, ids...)
	i.check(err)
	if strings.Contains(refused.Logs(), "stream acquired") || !strings.Contains(good.Logs(), "stream acquired") {
		t.Error("the stream was not given to the stand-by that could carry it")
	}
	i.mongoUser(t, "admin", user, password, readAny())
	i.isReady(refused)
	i.stop(good)
	ids = append(ids, i.write())
	_, err = r.UntilIDs(i.ctx, ids...)
	i.check(err)
	i.stop(refused)
}

// So does one that carries another stream, whose connections stay logged in after the password
// has changed: what its neighbour leaves behind is taken over.
func TestOwnerReadsItsSecretAnew(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s", "FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent]}]")
	user, password, next := "user-"+strings.ToLower(rand.Text()[:8]), rand.Text(), rand.Text()
	i.mongoUser(t, "admin", user, password, readAny())
	first := i.with("FHIR_CDC_INSTANCE", "first").start()
	file := secretFile(t, "password", password)
	i.mongo(i.mongoURI(i.mongoAt(nil, "&authSource=admin")))
	for _, prefix := range []string{"MONGO", "RESOURCE_HISTORY_MONGO", "AUDIT_EVENT_MONGO", "ACCESS_LOGS_MONGO"} {
		i.with(prefix+"_USERNAME", user, prefix+"_PASSWORD_FILE", file)
	}
	one, two := i.with("FHIR_CDC_INSTANCE", "one").standBy(), i.with("FHIR_CDC_INSTANCE", "two").standBy()
	i.stop(first)
	for _, d := range []*harness.Daemon{one, two} {
		i.check(d.WaitForLog(i.ctx, "stream acquired"))
		i.isReady(d)
	}
	i.check(i.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: "updateUser", Value: user}, {Key: "pwd", Value: next}}).Err())
	i.notReady(one)
	replace(t, file, next)
	i.isReady(one)
	r := i.reader()
	i.stop(two)
	id := i.write()
	_, err := r.UntilIDs(i.ctx, id)
	i.check(err)
	i.isReady(one)
	i.stop(one)
}

// standBy starts a daemon beside one that carries the stream.
func (i *installation) standBy() *harness.Daemon {
	i.t.Helper()
	d := harness.Start(i.t, harness.Options{Env: i.env})
	i.isReady(d)
	return d
}

func (i *installation) isReady(d *harness.Daemon) {
	i.t.Helper()
	i.until("/readyz is green", func() bool {
		response, err := get(i.ctx, i.statusURL(d)+"/readyz")
		return err == nil && response.status == http.StatusOK
	})
}

// A stand-by reads a password anew that was changed in MongoDB and then in its file: the one
// that it was started with would not let it take over.
func TestStandByReadsItsSecretAnew(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s")
	user, password, next := "user-"+strings.ToLower(rand.Text()[:8]), rand.Text(), rand.Text()
	i.mongoUser(t, "admin", user, password, readAny())
	owner := i.with("FHIR_CDC_INSTANCE", "owner").start()
	r := i.reader()
	ids := []string{i.write()}
	_, err := r.UntilIDs(i.ctx, ids...)
	i.check(err)
	file := secretFile(t, "password", password)
	i.with("FHIR_CDC_INSTANCE", "stand-by").mongo(i.mongoURI(i.mongoAt(nil, "&authSource=admin")))
	for _, prefix := range []string{"MONGO", "RESOURCE_HISTORY_MONGO", "AUDIT_EVENT_MONGO", "ACCESS_LOGS_MONGO"} {
		i.with(prefix+"_USERNAME", user, prefix+"_PASSWORD_FILE", file)
	}
	d := i.standBy()
	i.check(i.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: "updateUser", Value: user}, {Key: "pwd", Value: next}}).Err())
	i.until("the stand-by sees that its password is refused", func() bool { return strings.Contains(d.Logs(), "MongoDB refuses the login") })
	i.notReady(d)
	replace(t, file, next)
	i.isReady(d)
	i.stop(owner)
	ids = append(ids, i.write())
	_, err = r.UntilIDs(i.ctx, ids...)
	i.check(err)
	i.stop(d)
}
