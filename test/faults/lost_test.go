package faults_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/proxy"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// tooLate is how late answers are that a replica must not wait for: it is back in seconds.
const tooLate = 2 * time.Minute

// TestLostInATransaction has the group give a replica up while it has a transaction open
// that it cannot end: it aborts at once, rather than drain for the shutdown's time, and
// joins again. Nothing of the transaction is seen by consumers.
func TestLostInATransaction(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	// With a network of its own: what is late is late for all of a broker's clients.
	k := services.ForTest(t, "a Kafka broker", func(ctx context.Context) (*broker, error) {
		return startBroker(ctx, services.KafkaOptions{HeapMB: 384})
	})
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	m := exactlyOnce()
	m.env["FHIR_CDC_REPLICAS"] = "kafka"
	m.env["FHIR_CDC_SESSION_TIMEOUT"] = sessionTimeout.String()
	m.env["FHIR_CDC_INSTANCE"] = "given-up"
	// Far more than the test takes to end.
	m.env["FHIR_CDC_SHUTDOWN_TIMEOUT"] = "3m"
	p := newPair(t, ownMongoDB(t), k.Brokers, m)
	p.through(t, k.network)
	p.start(ctx, networkRate)
	i := p.installations[0]
	p.caughtUp(ctx)
	d := i.daemons[0]
	admin := harness.Admin(t, k.Brokers)
	transaction := i.site.Name + "/main"
	for n := range scaled(2, soakFactor) {
		lives := strings.Count(d.Logs(), harness.LogResumes)
		late := k.network.Inject(proxy.Fault{Operation: "Produce", Answer: true, Delay: tooLate, Times: math.MaxInt})
		open := func() bool {
			described, err := admin.DescribeTransactions(ctx, transaction)
			return err == nil && described[transaction].State == "Ongoing"
		}
		for !open() {
			if err := pass(ctx, askAgain); err != nil {
				t.Fatalf("no transaction is open: %v", err)
			}
		}
		begin := time.Now()
		left, err := admin.LeaveGroup(ctx, kadm.LeaveGroup(i.site.Name).InstanceIDs("given-up").Reason("an operator removes it"))
		if err == nil {
			err = left.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		late.Remove()
		for strings.Count(d.Logs(), harness.LogResumes) == lives {
			if err := pass(ctx, askAgain); err != nil {
				t.Fatalf("the replica has not come back: %v", err)
			}
		}
		took := time.Since(begin).Round(time.Millisecond)
		t.Logf("loss %d: back after %v", n+1, took)
		if took > tooLate/2 {
			t.Errorf("back after %v: it has waited for what it should have aborted", took)
		}
		if !strings.Contains(d.Logs(), "streams lost") || !strings.Contains(d.Logs(), "the group has given this process up") {
			t.Error("the replica does not say that it has lost the stream")
		}
		p.caughtUp(ctx)
	}
	p.finish(ctx)
}
