package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// Events behind a transaction that hangs are not seen by consumers, but they are there: a
// repair that published them would double them.
func TestVerifyBehindAHangingTransaction(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_KAFKA_TRANSACTION_TIMEOUT", "2s")
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	i.start()
	reader := i.reader()
	ids := i.everyKind(10)
	i.until(reader, ids...)
	all, err := reader.End(i.ctx)
	i.check(err)
	live := slices.DeleteFunc(all, func(r harness.Record) bool { return r.Topic == i.site.Topics.DeadLetters })
	i.awaitPosition(since, len(ids))

	const first, gone = 10, 3
	i.copied("held.", live[:first])
	hanging, err := kgo.NewClient(kgo.SeedBrokers(i.site.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID(i.site.Name+"-hangs"), kgo.TransactionTimeout(10*time.Minute))
	i.check(err)
	defer hanging.Close()
	i.check(hanging.BeginTransaction())
	for _, topic := range prefixed("held.", i.site.Topics.Events()...) {
		for p := range int32(3) {
			i.check(hanging.ProduceSync(i.ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("never to be seen")}).FirstErr())
		}
	}
	// The rest comes behind it, but for the last ones, which are missing.
	i.produce("held.", live[first:len(live)-gone])
	held := len(live) - first - gone

	v := i.verify("--since", since, "--repair")
	count := func(of func(verifiedTopic) int) int { return v.sum(func(n int) int { return of(v.Topics[n]) }) }
	got := fmt.Sprintf("held %d, missing %d, repaired %d, duplicated %d, unexpected %d",
		count(func(t verifiedTopic) int { return t.Held }), count(func(t verifiedTopic) int { return t.Missing }), count(func(t verifiedTopic) int { return t.Repaired }),
		count(func(t verifiedTopic) int { return t.Duplicated }), count(func(t verifiedTopic) int { return t.Unexpected }))
	if want := fmt.Sprintf("held %d, missing %d, repaired %[2]d, duplicated 0, unexpected 0", held, gone); got != want || v.Clean || len(v.Notes) == 0 {
		t.Errorf("%s (clean %v, notes %q), want %s", got, v.Clean, v.Notes, want)
	}
	i.check(hanging.EndTransaction(i.ctx, kgo.TryAbort))
	if v := i.verify("--since", since); !v.Clean {
		t.Errorf("when the transaction has ended: %+v", v)
	}
}
