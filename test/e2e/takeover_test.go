package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
)

// Without replicas, a second daemon of the same name takes the stream over: the
// first ends, and every event is there once.
func TestFenced(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_REPLICAS", "none")
	first := i.start()
	before := i.consent("before")
	reader := i.reader()
	i.until(reader, changeID(before))

	second := i.start()
	ids := changeIDs(before)
	for n := range 20 {
		ids = append(ids, changeID(i.consent(fmt.Sprintf("after-%d", n))))
	}
	if code := i.wait(first); code != exitFenced {
		t.Errorf("the first daemon ended with code %d, want %d", code, exitFenced)
	}
	logHas(t, first, "another process owns the stream")
	i.exactly(reader, ids...)
	i.stop(second)
	i.exactly(reader, ids...)
}

// A process of the replicas is overtaken by one outside their group that has other streams:
// it waits and says so, and does not bring its own streams back.
func TestStreamsAreNotChangedBack(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SESSION_TIMEOUT", "6s")
	before := i.replica("before")
	i.check(before.WaitReady(i.ctx))
	reader := i.reader()
	ids := i.publishes(reader, nil, "before")

	after := i.with("FHIR_CDC_REPLICAS", "none", "FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent], slices: 2}]").start()
	ids = i.publishes(reader, ids, "after")
	i.eventually("the overtaken process tells why it waits", func() bool {
		code, text := i.get(before, "readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "another process has changed the streams: they are")
	})
	ids = i.publishes(reader, ids, "long after")
	i.stop(after)
	i.stop(before.Daemon)
	i.exactly(reader, ids...)
}

// A second signal ends the daemon at once, whatever it still waits for; nothing is
// lost by it.
func TestSecondSignal(t *testing.T) {
	// The drain waits for a history whose MongoDB does not answer.
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_SHUTDOWN_TIMEOUT", "5m")
	network := proxy.ForTest(t, proxy.MongoDB())
	uri, err := url.Parse(i.site.MongoURI)
	i.check(err)
	network.Forward(uri.Host)
	uri.Host, uri.RawQuery = network.Address(), "directConnection=true"
	direct := i.env["RESOURCE_HISTORY_MONGO_URL"]
	i.with("RESOURCE_HISTORY_MONGO_URL", uri.String())
	d := i.start()
	look := network.Inject(proxy.Fault{Operation: "find", Delay: 5 * time.Minute})
	consent := i.consent("c-1")
	i.check(look.Wait(i.ctx))

	// One that comes with the first, as from timeout(1), changes nothing. Two of one kind
	// could become one.
	i.check(d.Signal(syscall.SIGTERM))
	i.check(d.Signal(syscall.SIGINT))
	// Sent again and again until one has come a second after the first.
	i.eventually("a second signal ends the daemon", func() bool {
		i.check(d.Signal(syscall.SIGINT))
		select {
		case <-d.Done():
			return true
		default:
			return false
		}
	})
	if code := i.wait(d); code != exitAborted {
		t.Errorf("exit code %d, want %d", code, exitAborted)
	}
	logHas(t, d, "second signal")

	i.with("RESOURCE_HISTORY_MONGO_URL", direct).start()
	i.exactly(i.reader(), changeID(consent))
}

// eventually waits for a condition outside of the daemon.
func (i *installation) eventually(what string, holds func() bool) {
	i.t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-i.ctx.Done():
			i.t.Fatalf("wait until %s: %v", what, context.Cause(i.ctx))
		}
	}
}
