package security_test

import (
	"context"
	"crypto/rand"
	"crypto/x509/pkix"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// A secret is changed at the server first and in the file then. The same process goes
// on, with every event once.
func (i *installation) rotates(change, rotate func(*harness.Daemon)) {
	i.t.Helper()
	d := i.with("FHIR_CDC_RETRY_MAX_BACKOFF", "1s").start()
	r := i.reader()
	ids := []string{i.write()}
	_, err := r.UntilIDs(i.ctx, ids...)
	i.check(err)
	change(d)
	ids = append(ids, i.write())
	rotate(d)
	ids = append(ids, i.write())
	_, err = r.UntilIDs(i.ctx, ids...)
	i.check(err)
	ids = append(ids, i.write())
	_, err = r.UntilIDs(i.ctx, ids...)
	i.check(err)
	i.stop(d)
	records, err := r.End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(ids, inOrder(ids, harness.EventIDs(records))); diff != "" {
		i.t.Errorf("event ids (-want +got):\n%s", diff)
	}
}

// inOrder is got in the order of want, what is not in want or there again at the end.
func inOrder(want, got []string) []string {
	count := map[string]int{}
	for _, id := range got {
		count[id]++
	}
	var out []string
	for _, id := range want {
		if count[id] > 0 {
			out = append(out, id)
			count[id]--
		}
	}
	for _, id := range got {
		if count[id] > 0 {
			out = append(out, id)
			count[id]--
		}
	}
	return out
}

func (i *installation) until(what string, done func() bool) {
	i.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-i.ctx.Done():
			i.t.Fatalf("wait until %s: %v", what, context.Cause(i.ctx))
		case <-ticker.C:
		}
	}
}

func TestRotationInKafka(t *testing.T) {
	t.Run("SCRAM", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		user, password := i.scramUser(t)
		i.allowAll(t, user)
		file := secretFile(t, "password", password)
		i.kafkaAt(listenerClear, sasl("scram-sha-512", user, "")...).with("KAFKA_SASL_PASSWORD_FILE", file)
		next := rand.Text()
		i.rotates(
			func(d *harness.Daemon) {
				i.setPassword(t, user, next)
				i.until("Kafka refuses the old password", func() bool { return strings.Contains(d.Logs(), "SASL_AUTHENTICATION_FAILED") })
			},
			func(*harness.Daemon) { replace(t, file, next) },
		)
	})
	t.Run("OAUTHBEARER client credentials", func(t *testing.T) {
		i := install(t, fhirserver.Options{})
		first, next := rand.Text(), rand.Text()
		i.identity.set(rotatingClient, first)
		file := secretFile(t, "secret", first)
		i.kafkaAt(listenerBearer, clientCredentials("")...).
			with("FHIR_CDC_KAFKA_SASL_OAUTH_CLIENT_ID", rotatingClient, "FHIR_CDC_KAFKA_SASL_OAUTH_CLIENT_SECRET_FILE", file)
		var before int
		i.rotates(
			func(d *harness.Daemon) {
				i.identity.set(rotatingClient, next)
				i.until("the endpoint refuses the old secret", func() bool { return strings.Contains(d.Logs(), "invalid_client") })
				before = i.identity.tokens(rotatingClient)
			},
			func(*harness.Daemon) {
				replace(t, file, next)
				i.until("the endpoint has given a token for the new secret", func() bool { return i.identity.tokens(rotatingClient) > before })
			},
		)
	})
}

// A certificate has ended, and a new one with another name has taken its place: the next
// connection logs in with that.
func TestRotationOfKafkaCertificate(t *testing.T) {
	i := install(t, fhirserver.Options{})
	dir := t.TempDir()
	certificateFile, keyFile := filepath.Join(dir, "client.pem"), filepath.Join(dir, "client-key.pem")
	write := func(name string, end time.Time) {
		certificate, key, err := i.files.authority.issueUntil(pkix.Name{CommonName: name, Organization: []string{clientOrganization}}, end)
		i.check(err)
		replace(t, keyFile, string(key))
		replace(t, certificateFile, string(certificate))
	}
	names := []string{"kafka-1-" + i.site.Name, "kafka-2-" + i.site.Name}
	for _, name := range names {
		i.allowAll(t, subject(name))
	}
	// Long enough for a start on a busy machine.
	end := time.Now().Add(30 * time.Second)
	write(names[0], end)
	i.kafkaAt(listenerMutual, "FHIR_CDC_KAFKA_TLS_CERT_FILE", certificateFile, "FHIR_CDC_KAFKA_TLS_KEY_FILE", keyFile)
	i.rotates(
		func(*harness.Daemon) { write(names[1], time.Now().Add(time.Hour)) },
		func(*harness.Daemon) {
			i.until("the first certificate has ended", func() bool { return time.Now().After(end) })
			// The daemon's producer is shut out, and has to connect anew.
			other, err := kgo.NewClient(kgo.SeedBrokers(i.kafka.Brokers...), kgo.TransactionalID(i.site.Name+"/main"))
			i.check(err)
			defer other.Close()
			_, _, err = other.ProducerID(i.ctx)
			i.check(err)
		},
	)
}

// Tokens end while the daemon runs; it logs in with new ones.
func TestTokensAreRenewed(t *testing.T) {
	i := install(t, fhirserver.Options{}).kafkaAt(listenerBearer, clientCredentials(clientSecret)...).with("FHIR_CDC_KAFKA_SASL_OAUTH_CLIENT_ID", renewingClient)
	first := time.Now()
	i.rotates(
		func(*harness.Daemon) {
			i.until("all tokens of the start have ended", func() bool { return time.Since(first) > 2*tokenLife })
		},
		func(d *harness.Daemon) {
			if n := i.identity.tokens(renewingClient); n < 2 {
				t.Errorf("the endpoint has given %d tokens, want one for each %s", n, tokenLife)
			}
			if strings.Contains(d.Logs(), "SASL_AUTHENTICATION_FAILED") {
				t.Error("the broker has refused a token")
			}
		},
	)
}

// cut has mongod close the daemon's connection when it next reads changes, and waits
// until it has. mongod has one failpoint of that name, so this is for one at a time.
func (i *installation) cut() {
	i.t.Helper()
	i.cutting.Lock()
	defer i.cutting.Unlock()
	var set struct{ Count int64 }
	admin := i.client.Database("admin")
	i.check(admin.RunCommand(i.ctx, bson.D{
		{Key: "configureFailPoint", Value: "failCommand"},
		{Key: "mode", Value: bson.D{{Key: "times", Value: 1}}},
		{Key: "data", Value: bson.D{
			{Key: "failCommands", Value: bson.A{"getMore"}}, {Key: "closeConnection", Value: true}, {Key: "appName", Value: "fhir-cdc/" + i.site.Name},
		}},
	}).Decode(&set))
	i.check(admin.RunCommand(i.ctx, bson.D{
		{Key: "waitForFailPoint", Value: "failCommand"}, {Key: "timesEntered", Value: set.Count + 1},
	}).Err())
}

func TestRotationInMongoDB(t *testing.T) {
	t.Run("SCRAM", func(t *testing.T) { install(t, fhirserver.Options{}).rotatesPassword() })
	t.Run("X.509", func(t *testing.T) { install(t, fhirserver.Options{}).rotatesCertificate() })
}

func (i *installation) rotatesPassword() {
	user, password, next := "user-"+strings.ToLower(rand.Text()[:8]), rand.Text(), "p@ss/"+rand.Text()
	i.mongoUser(i.t, "admin", user, password, readAny())
	file := secretFile(i.t, "password", password)
	i.mongo(i.mongoURI(i.mongoAt(nil, "&authSource=admin")))
	for _, prefix := range []string{"MONGO", "RESOURCE_HISTORY_MONGO", "AUDIT_EVENT_MONGO", "ACCESS_LOGS_MONGO"} {
		i.with(prefix+"_USERNAME", user, prefix+"_PASSWORD_FILE", file)
	}
	i.rotates(
		func(d *harness.Daemon) {
			i.check(i.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: "updateUser", Value: user}, {Key: "pwd", Value: next}}).Err())
			i.cut()
			i.until("MongoDB refuses the old password", func() bool { return strings.Contains(d.Logs(), "MongoDB refuses the login") })
			i.notReady(d)
		},
		func(*harness.Daemon) { replace(i.t, file, next) },
	)
}

func (i *installation) rotatesCertificate() {
	names := []string{"rotating-1-" + i.site.Name, "rotating-2-" + i.site.Name}
	file := filepath.Join(i.t.TempDir(), "client.pem")
	write := func(name string) {
		certificate, key, err := i.files.authority.issue(pkix.Name{CommonName: name, Organization: []string{clientOrganization}})
		i.check(err)
		replace(i.t, file, string(certificate)+string(key))
	}
	for _, name := range names {
		i.mongoUser(i.t, "$external", subject(name), "", readAny())
	}
	write(names[0])
	i.mongo(strings.Replace(i.x509("daemon-both.pem"), url.QueryEscape(i.files.path("daemon-both.pem")), url.QueryEscape(file), 1))
	i.rotates(
		func(d *harness.Daemon) {
			i.check(i.client.Database("$external").RunCommand(i.ctx, bson.D{{Key: "dropUser", Value: subject(names[0])}}).Err())
			i.until("MongoDB refuses the old certificate", func() bool { return strings.Contains(d.Logs(), "MongoDB refuses the login") })
		},
		func(*harness.Daemon) { write(names[1]) },
	)
}

// notReady asserts that the daemon says so while it is refused.
func (i *installation) notReady(d *harness.Daemon) {
	i.t.Helper()
	i.until("/readyz is red", func() bool {
		response, err := get(i.ctx, i.statusURL(d)+"/readyz")
		return err == nil && response.status == http.StatusServiceUnavailable
	})
}

// statusURL is the address of the daemon's status port, as its log names it.
func (i *installation) statusURL(d *harness.Daemon) string {
	i.t.Helper()
	address, err := d.StatusAddress(i.ctx)
	i.check(err)
	return "http://" + address
}

// The broker comes back with a certificate of another authority, and only then the file
// with the authorities changes: the same process goes on.
func TestRotationOfKafkaAuthority(t *testing.T) {
	i := install(t, fhirserver.Options{})
	next, err := newAuthority("next")
	i.check(err)
	keystore := filepath.Join(t.TempDir(), "broker.pem")
	issue := func(by *authority) {
		certificate, key, err := by.issue(pkix.Name{CommonName: "kafka"})
		i.check(err)
		replace(t, keystore, string(key)+string(certificate))
	}
	issue(i.files.authority)
	kafka := services.KafkaForTest(t, services.KafkaOptions{
		Listeners:  []services.KafkaListener{{Name: "TLS", Protocol: "SSL"}},
		Properties: map[string]string{"listener.name.tls.ssl.keystore.type": "PEM", "listener.name.tls.ssl.keystore.location": keystore},
	})
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	replace(t, authorities, string(i.files.authority.pem))
	i.with("KAFKA_URLS", kafka.Listeners["TLS"], "KAFKA_SSL", "true", "FHIR_CDC_KAFKA_TLS_CA_FILE", authorities, "FHIR_CDC_RETRY_MAX_BACKOFF", "1s")
	d := i.start()
	r := harness.NewReader(t, kafka.Brokers, append(i.site.Topics.Events(), i.site.Topics.DeadLetters)...)
	ids := []string{i.write()}
	_, err = r.UntilIDs(i.ctx, ids...)
	i.check(err)

	issue(next)
	i.check(kafka.Restart(i.ctx))
	ids = append(ids, i.write())
	i.until("the daemon does not trust the broker", func() bool { return strings.Contains(d.Logs(), "certificate signed by unknown authority") })
	replace(t, authorities, string(next.pem))
	_, err = r.UntilIDs(i.ctx, ids...)
	i.check(err)
	i.stop(d)
	records, err := r.End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(ids, harness.EventIDs(records)); diff != "" {
		t.Errorf("event ids (-want +got):\n%s", diff)
	}
}
