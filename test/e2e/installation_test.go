package e2e_test

import (
	"context"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// installation is a FHIR server and a daemon on databases and topics of a test's
// own. Its methods end the test on an error.
type installation struct {
	t    *testing.T
	ctx  context.Context
	site harness.Site
	fhir *fhirserver.Server
	// env is the daemon's environment.
	env map[string]string
}

// slowMachine is a wait for history that comes, on a machine that is busy with other
// tests.
const slowMachine = "1m"

// install prepares an installation that can run beside others.
func install(t *testing.T, o fhirserver.Options) *installation {
	t.Helper()
	t.Parallel()
	return installAt(t, o, func(*harness.Site) {})
}

// installAt prepares an installation whose names are changed.
func installAt(t *testing.T, o fhirserver.Options, change func(*harness.Site)) *installation {
	t.Helper()
	s := shared.use(t)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	i := &installation{t: t, ctx: ctx, site: harness.NewSite(t, s.mongoDB.URI, s.kafka.Brokers)}
	change(&i.site)
	i.env = i.site.Env()
	o.Databases = i.site.Databases
	i.fhir = fhirserver.New(s.client, o)
	t.Cleanup(func() {
		i.check(i.fhir.Flush())
		// The test's own context has ended.
		for _, name := range []string{o.Databases.Main, o.Databases.History, o.Databases.AuditEvents, o.Databases.AccessLogs} {
			i.check(s.client.Database(name).Drop(context.WithoutCancel(ctx)))
		}
	})
	return i
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

// withEveryKind switches on the kinds too that are off where nothing names them.
func (i *installation) withEveryKind() *installation {
	i.site = i.site.WithResourceChange("Consent", "ExportStatus", "Person").WithPersonLink()
	maps.Copy(i.env, i.site.ServerEnv())
	return i
}

// start runs the daemon and waits until every change from now on is its own.
func (i *installation) start(args ...string) *harness.Daemon {
	i.t.Helper()
	d := harness.Start(i.t, harness.Options{Env: i.env, Args: args})
	i.check(d.WaitReady(i.ctx))
	return d
}

// run runs a daemon that ends by itself, and returns its exit code.
func (i *installation) run(o harness.Options) (*harness.Daemon, int) {
	i.t.Helper()
	if o.Env == nil {
		o.Env = i.env
	}
	d := harness.Start(i.t, o)
	return d, i.wait(d)
}

// stop ends the daemon in order: everything it has read is published.
func (i *installation) stop(d *harness.Daemon) {
	i.t.Helper()
	code, err := d.Stop(i.ctx)
	i.check(err)
	if code != 0 {
		i.t.Fatalf("the daemon ended with code %d after SIGTERM, want 0", code)
	}
}

func (i *installation) wait(d *harness.Daemon) int {
	i.t.Helper()
	code, err := d.Wait(i.ctx)
	i.check(err)
	return code
}

// reader consumes the event topics and the dead letters.
func (i *installation) reader() *harness.Reader {
	return harness.NewReader(i.t, i.site.Brokers, append(i.site.Topics.Events(), i.site.Topics.DeadLetters)...)
}

// until reads until all ids have come.
func (i *installation) until(r *harness.Reader, ids ...string) []harness.Record {
	i.t.Helper()
	records, err := r.UntilIDs(i.ctx, ids...)
	i.check(err)
	return records
}

// exactly asserts that the topics hold the events of these ids and no other
// record, each once, once they have all come.
func (i *installation) exactly(r *harness.Reader, ids ...string) []harness.Record {
	i.t.Helper()
	i.until(r, ids...)
	records, err := r.End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(count(ids), count(harness.EventIDs(records))); diff != "" {
		i.t.Errorf("event ids (-want +got):\n%s", diff)
	}
	return records
}

func count(list []string) map[string]int {
	n := map[string]int{}
	for _, s := range list {
		n[s]++
	}
	return n
}

// consent creates a Consent and returns it.
func (i *installation) consent(id string) fhirserver.Resource {
	i.t.Helper()
	r, err := i.fhir.CreateConsent(i.ctx, id)
	i.check(err)
	return r
}

func changeID(r fhirserver.Resource) string {
	return harness.ChangeID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
}

func exportID(r fhirserver.Resource) string {
	return harness.ExportID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
}

func compactID(r fhirserver.Resource) string {
	return harness.ResourceChangeID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
}

func linkID(r fhirserver.Resource) string {
	return harness.PersonLinkID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
}

func changeIDs(resources ...fhirserver.Resource) []string {
	ids := make([]string, len(resources))
	for i, r := range resources {
		ids[i] = changeID(r)
	}
	return ids
}

// byKey groups record ids by the records' key, in the order of each key.
func byKey(records []harness.Record) map[string][]string {
	keys := map[string][]string{}
	for _, r := range records {
		keys[r.Key] = append(keys[r.Key], r.EventID())
	}
	return keys
}
