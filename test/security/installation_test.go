package security_test

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// exitUsage is the daemon's exit code for what an operator has to change.
const exitUsage = 2

// installation is a FHIR server and a daemon on databases and topics of a test's
// own. Its methods end the test on an error.
type installation struct {
	*servers
	t    *testing.T
	ctx  context.Context
	site harness.Site
	fhir *fhirserver.Server
	// env is the daemon's environment.
	env map[string]string
	n   int
}

// install prepares an installation that runs beside others, with the rights of an
// administrator of both servers.
func install(t *testing.T, o fhirserver.Options) *installation {
	t.Helper()
	t.Parallel()
	s := shared.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	i := &installation{servers: s, t: t, ctx: ctx}
	i.site = harness.NewSite(t, i.mongoURI(s.mongoDB.URI), s.kafka.Brokers)
	i.env = i.site.Env()
	o.Databases = i.site.Databases
	i.fhir = fhirserver.New(s.client, o)
	t.Cleanup(func() {
		i.check(i.fhir.Flush())
		d := o.Databases
		for _, name := range []string{d.Main, d.History, d.AuditEvents, d.AccessLogs} {
			i.check(s.client.Database(name).Drop(context.WithoutCancel(ctx))) // The test's own context has ended.
		}
	})
	return i
}

// mongoURI adds TLS with our authority to a connection string.
func (i *installation) mongoURI(uri string) string {
	return uri + "&tls=true&tlsCAFile=" + url.QueryEscape(i.files.path("ca.pem"))
}

// mongoAt is the connection string of another login: user info and options.
func (i *installation) mongoAt(login *url.Userinfo, options string) string {
	u, err := url.Parse(i.mongoDB.URI)
	i.check(err)
	u.User, u.RawQuery = login, "replicaSet="+u.Query().Get("replicaSet")+options
	return u.String()
}

func (i *installation) check(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

// with changes the daemon's environment: name, value, name, value; an empty value
// takes a variable away.
func (i *installation) with(changes ...string) *installation {
	i.env = harness.With(i.env, changes...)
	return i
}

// mongo sets all connection strings.
func (i *installation) mongo(uri string) *installation {
	return i.with("MONGO_URL", uri, "RESOURCE_HISTORY_MONGO_URL", uri, "AUDIT_EVENT_MONGO_URL", uri, "ACCESS_LOGS_CLUSTER_MONGO_URL", uri)
}

// kafkaAt has the daemon come by one of the broker's listeners.
func (i *installation) kafkaAt(listener string, changes ...string) *installation {
	i.with("KAFKA_URLS", i.kafka.Listeners[listener])
	if listener != listenerClear {
		i.with("KAFKA_SSL", "true", "FHIR_CDC_KAFKA_TLS_CA_FILE", i.files.path("ca.pem"))
	}
	return i.with(changes...)
}

func sasl(mechanism, user, password string) []string {
	return []string{"KAFKA_SASL", "true", "KAFKA_SASL_MECHANISM", mechanism, "KAFKA_SASL_USERNAME", user, "KAFKA_SASL_PASSWORD", password}
}

func (i *installation) start() *harness.Daemon {
	i.t.Helper()
	d := harness.Start(i.t, harness.Options{Env: i.env})
	i.check(d.WaitReady(i.ctx))
	return d
}

func (i *installation) stop(d *harness.Daemon) {
	i.t.Helper()
	code, err := d.Stop(i.ctx)
	i.check(err)
	if code != 0 {
		i.t.Fatalf("the daemon ended with code %d after SIGTERM, want 0", code)
	}
}

// write creates a Consent and returns the id of its event.
func (i *installation) write() string {
	i.t.Helper()
	i.n++
	r, err := i.fhir.CreateConsent(i.ctx, fmt.Sprintf("consent-%d", i.n))
	i.check(err)
	return harness.ChangeID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
}

// reader consumes the event topics and the dead letters, as an administrator.
func (i *installation) reader() *harness.Reader {
	return harness.NewReader(i.t, i.kafka.Brokers, append(i.site.Topics.Events(), i.site.Topics.DeadLetters)...)
}

// carries runs the daemon and sees a change through to its event.
func (i *installation) carries() *harness.Daemon {
	i.t.Helper()
	d := i.start()
	id := i.write()
	_, err := i.reader().UntilIDs(i.ctx, id)
	i.check(err)
	i.stop(d)
	return d
}

// refused runs a daemon that has to end by itself with exit code 2 and one error that
// has all of the texts, each an alternation of regular expressions.
func (i *installation) refused(texts ...string) {
	i.t.Helper()
	d := harness.Start(i.t, harness.Options{Env: i.env})
	code, err := d.Wait(i.ctx)
	i.check(err)
	if code != exitUsage {
		i.t.Errorf("the daemon ended with code %d, want %d", code, exitUsage)
	}
	var errs []string
	for line := range strings.Lines(d.Logs()) {
		if strings.HasPrefix(line, "fhir-cdc: ") {
			errs = append(errs, line)
		}
	}
	if len(errs) != 1 {
		i.t.Fatalf("the daemon ended with %d errors, want one: %q", len(errs), errs)
	}
	for _, text := range texts {
		if !regexp.MustCompile("(?i)" + text).MatchString(errs[0]) {
			i.t.Errorf("the error does not say %q: %s", text, errs[0])
		}
	}
	i.t.Logf("error: %s", errs[0])
}
