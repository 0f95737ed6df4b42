package faults_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// told waits until /status has an error and an advice with the words.
func told(ctx context.Context, t *testing.T, d *harness.Daemon, words, advice string) {
	t.Helper()
	for {
		_, text, err := probe(ctx, d, "/status")
		var status struct {
			Streams []struct{ LastError, Advice string }
		}
		if err == nil && json.Unmarshal([]byte(text), &status) == nil && len(status.Streams) == 1 &&
			strings.Contains(status.Streams[0].LastError, words) && strings.Contains(status.Streams[0].Advice, advice) {
			return
		}
		if pass(ctx, askAgain) != nil {
			t.Fatalf("/status (%v) does not tell %q and %q: %s", err, words, advice, text)
		}
	}
}

// tooFewInSync has topics need more replicas than there are brokers left: what these answer
// is told, with the topic's name, and all goes on when the need is met.
func (p *pair) tooFewInSync(ctx context.Context, t *testing.T, admin *kadm.Client) {
	t.Helper()
	for _, of := range []func(harness.Topics) string{
		func(t harness.Topics) string { return t.Change },
		func(t harness.Topics) string { return t.Positions },
	} {
		need := func(replicas string) {
			t.Helper()
			for _, i := range p.installations {
				answers, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.insync.replicas", Value: &replicas}}, of(i.site.Topics))
				if err == nil {
					err = answers[0].Err
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		need("2")
		// The answer is NOT_ENOUGH_REPLICAS, or CONCURRENT_TRANSACTIONS where the brokers
		// cannot even complete the transaction before.
		for _, i := range p.installations {
			d := i.daemons[len(i.daemons)-1]
			told(ctx, t, d, "the brokers have been answering for", "min.insync.replicas")
			// Of several topics the last is what /status tells; the log has each.
			if err := d.WaitForLog(ctx, `"topic `+of(i.site.Topics)+`"`); err != nil {
				t.Fatal(err)
			}
		}
		need("1")
		p.caughtUp(ctx)
	}
	for _, d := range p.daemons() {
		if !strings.Contains(d.Logs(), "the brokers refuse what they are sent") {
			t.Error("the log does not have the brokers' answer")
		}
	}
}

// TestTransactionsThatTakeTooLong has a quota let through less than a whole batch before
// the transaction times out: batches become smaller until they are committed, and larger
// again without the quota.
func TestTransactionsThatTakeTooLong(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	i := install(t, exactlyOnce(), sharedSite(t))
	delete(i.env, "KAFKA_CLIENT_ID") // so that it is the installation's name
	i.env["FHIR_CDC_KAFKA_TRANSACTION_TIMEOUT"] = "4s"
	i.env["FHIR_CDC_TOPICS_PARTITIONS"] = "1"
	i.env["FHIR_CDC_RETRY_MAX_BACKOFF"] = "1s"
	d := i.startReady(ctx)
	if code, err := d.Stop(ctx); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	l := i.load(t, seed(t, 0), 3000)
	l.noExports, l.rate = true, 10000
	l.begin(ctx, t)()

	admin := harness.Admin(t, i.site.Brokers)
	quota := func(op kadm.AlterClientQuotaOp) {
		t.Helper()
		op.Key = "producer_byte_rate"
		altered, err := admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
			Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: &i.site.Name}}, Ops: []kadm.AlterClientQuotaOp{op},
		}})
		if err == nil {
			err = altered[0].Err
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	quota(kadm.AlterClientQuotaOp{Value: 40000})
	d = i.start()
	told(ctx, t, d, "throttles this client", "producer_byte_rate")
	if err := d.WaitForLog(ctx, "batches become smaller"); err != nil {
		t.Fatal(err)
	}
	// What is there now was committed under the quota.
	want := ids(events(i.site.Topics, l.written(), nil))
	if _, err := harness.NewReader(t, i.site.Brokers, i.topics()...).UntilIDs(ctx, want[0]); err != nil {
		t.Fatalf("nothing is committed: %v", err)
	}
	quota(kadm.AlterClientQuotaOp{Remove: true})
	i.verify(ctx, l)
}
