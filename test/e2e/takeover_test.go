package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
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
	// The drain waits for history that never comes.
	i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).
		with("FHIR_CDC_FACTS_WAIT", "5m", "FHIR_CDC_SHUTDOWN_TIMEOUT", "5m")
	i.check(i.fhir.CreateIndexes(i.ctx))
	d := i.start()
	looked := i.historyReads()
	consent := i.consent("c-1")
	i.eventually("the daemon looks for history", func() bool { return i.historyReads() > looked })

	// One that comes with the first, as from timeout(1), changes nothing. Two of one kind
	// could become one.
	i.check(d.Signal(syscall.SIGTERM))
	i.check(d.Signal(syscall.SIGINT))
	looked = i.historyReads()
	i.eventually("the daemon goes on looking", func() bool { return i.historyReads() > looked+2 })
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

	i.with("FHIR_CDC_FACTS_WAIT", "0s").start()
	i.exactly(i.reader(), changeID(consent))
}

// historyReads counts the reads of the history of Consents.
func (i *installation) historyReads() int64 {
	i.t.Helper()
	raw, err := shared.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: "top", Value: 1}}).Raw()
	i.check(err)
	namespace := i.site.Databases.History + ".Consent_4_0_0_History"
	n, _ := raw.Lookup("totals", namespace, "queries", "count").AsInt64OK()
	return n
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
