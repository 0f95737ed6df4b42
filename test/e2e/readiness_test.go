package e2e_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

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
	replicas := []*replica{i.replica("one"), i.replica("two")}
	i.eventually("one replica has been given the stream, the other stands by", func() bool {
		waits := 0
		for _, r := range replicas {
			code, text := i.get(r, "readyz")
			if code == http.StatusOK {
				t.Fatalf("/readyz of %s says %q although no stream has begun", r.name, text)
			}
			if strings.Contains(text, "stream main ") && i.state(r) != "standing_by" {
				waits++
			}
		}
		return waits == 1
	})
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
