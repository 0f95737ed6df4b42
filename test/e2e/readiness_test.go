package e2e_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
)

// Ready means that what is written from now on has its event: on a first start with
// start: now no replica is ready before one has stored a position.
func TestReadyOnAFirstStart(t *testing.T) {
	i := install(t, fhirserver.Options{})
	network := proxy.ForTest(t, proxy.MongoDB())
	uri, err := url.Parse(i.site.MongoURI)
	i.check(err)
	network.Forward(uri.Host)
	network.Block()
	// The members' own addresses, which lead past the proxy, are not asked for.
	uri.Host, uri.RawQuery = network.Address(), "directConnection=true"
	i.onMongoDB(uri.String())
	reader := i.reader()
	var replicas []*replica
	for _, name := range []string{"one", "two"} {
		replicas = append(replicas, i.withStatus(harness.Start(t, harness.Options{Env: harness.With(i.env, "FHIR_CDC_INSTANCE", name)}), name))
	}
	i.eventually("both replicas wait for MongoDB", func() bool {
		waits := 0
		for _, r := range replicas {
			code, text := i.get(r, "readyz")
			if code == http.StatusOK {
				t.Fatalf("/readyz of %s says %q although no stream has begun", r.name, text)
			}
			if strings.Contains(text, "stream main has been waiting for MongoDB for ") {
				waits++
			}
		}
		return waits == 2
	})
	for _, r := range replicas {
		if strings.Contains(r.Logs(), "joined the replicas") {
			t.Errorf("%s has joined although it cannot carry anything", r.name)
		}
	}
	network.Unblock()
	i.eventually("both replicas are ready", func() bool {
		for _, r := range replicas {
			if code, _ := i.get(r, "readyz"); code != http.StatusOK {
				return false
			}
		}
		return true
	})
	i.exactly(reader, changeID(i.consent("first")))
}

// Without replicas too: a daemon that says ready has begun.
func TestReadyAlone(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_REPLICAS", "none")
	reader := i.reader()
	r := i.withStatus(harness.Start(t, harness.Options{Env: i.env}), "alone")
	i.eventually("the daemon is ready", func() bool { code, _ := i.get(r, "readyz"); return code == http.StatusOK })
	i.exactly(reader, changeID(i.consent("first")))
}

// redUntilItRuns has a replica lose the transactional id of its stream, and then wait for it:
// from its error on it is not ready until the stream runs again. It returns the id of the
// event of a change in between.
func (i *installation) redUntilItRuns(r *replica, network *proxy.Proxy) string {
	i.t.Helper()
	i.ready(r)
	before := strings.Count(r.Logs(), harness.LogResumes)
	late := network.Inject(proxy.Fault{Operation: "InitProducerID", Answer: true, Delay: 5 * time.Second})
	client, err := kgo.NewClient(kgo.SeedBrokers(i.site.Brokers...))
	i.check(err)
	defer client.Close()
	take := kmsg.NewPtrInitProducerIDRequest()
	take.TransactionalID, take.TransactionTimeoutMillis = kmsg.StringPtr(i.site.Name+"/main"), 10_000
	answer, err := take.RequestWith(i.ctx, client)
	i.check(err)
	i.check(kerr.ErrorForCode(answer.ErrorCode))
	id := changeID(i.consent("in between"))
	i.notReady(r)
	i.eventually("the stream runs again", func() bool {
		code, text := i.get(r, "readyz")
		if code == http.StatusOK && !strings.HasPrefix(text, "ok, 1 stream runs here") {
			i.t.Errorf("/readyz says %q while the stream is acquired again", text)
		}
		return code == http.StatusOK && strings.Count(r.Logs(), harness.LogResumes) > before
	})
	i.check(late.Wait(i.ctx))
	return id
}
