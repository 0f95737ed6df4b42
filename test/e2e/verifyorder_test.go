package e2e_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// Two versions of one resource whose records are exchanged are found, they and no
// others, and a repair says that it cannot mend them.
func TestVerifyOrder(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_FACTS_REQUEST_ID", "false")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	i.start()
	reader := i.reader()
	written, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: "con", Keys: 200, Versions: 3})
	i.check(err)
	live := i.until(reader, changeIDs(written...)...)
	i.awaitPosition(since, len(written))

	// Any version but a key's last, and the one after it.
	key, nth := live[random.IntN(len(live))].Key, random.IntN(2)
	var places []int
	for n, r := range live {
		if r.Key == key {
			places = append(places, n)
		}
	}
	earlier, later := places[nth], places[nth+1]
	first, second := live[earlier].EventID(), live[later].EventID()
	swapped := slices.Clone(live)
	swapped[earlier], swapped[later] = live[later], live[earlier]
	i.copied("swapped.", swapped)

	v := i.verify("--since", since)
	if len(v.OutOfOrder) != 1 || v.OutOfOrder[0].ID != second || v.OutOfOrder[0].After != first {
		t.Errorf("out of order is %+v, want %s before %s of key %s", v.OutOfOrder, second, first, key)
	}
	others := func(v verified) int {
		return v.sum(func(n int) int {
			return v.Topics[n].Missing + v.Topics[n].Duplicated + v.Topics[n].Unexpected + v.Topics[n].Repaired
		})
	}
	if n := others(v); n != 0 || v.Clean {
		t.Errorf("%d other faults, clean %v: %+v", n, v.Clean, v.Topics)
	}

	d, code := i.run(harness.Options{Command: []string{"verify", "--since", since}})
	told := "out of order " + second + " at "
	if text := d.Stdout(); code != exitFailure || strings.Count(text, "out of order ") != 1 || !strings.Contains(text, told) || !strings.Contains(text, "comes before "+first) {
		t.Errorf("exit code %d, people are not told %q and nothing else:\n%s", code, told, text)
	}

	copies := harness.NewReader(t, i.site.Brokers, prefixed("swapped.", i.site.Topics.Events()...)...)
	before, err := copies.End(i.ctx)
	i.check(err)
	v = i.verify("--since", since, "--repair")
	if notes := strings.Join(v.Notes, "\n"); v.Clean || others(v) != 0 || len(v.OutOfOrder) != 1 || !strings.Contains(notes, "cannot move a record") || !strings.Contains(notes, "1 out of order") {
		t.Errorf("a repair of what it cannot mend: %+v", v)
	}
	after, err := copies.End(i.ctx)
	i.check(err)
	if len(after) != len(before) {
		t.Errorf("the repair has published %d records", len(after)-len(before))
	}
}

// Events that cannot be read yet, because a transaction of somebody before them in their
// partition is open, are waited for and not called missing.
func TestVerifyOpenTransaction(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_FACTS_REQUEST_ID", "false", "FHIR_CDC_CHECKPOINT_IDLE_INTERVAL", "1s")
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	reader := i.reader()
	i.until(reader, changeID(i.consent("before")))

	other, err := kgo.NewClient(kgo.SeedBrokers(i.site.Brokers...), kgo.TransactionalID(i.site.Name+"-other"), kgo.TransactionTimeout(testTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	i.check(err)
	defer other.Close()
	i.check(other.BeginTransaction())
	for partition := range int32(3) {
		i.check(other.ProduceSync(i.ctx, &kgo.Record{Topic: i.site.Topics.Change, Partition: partition, Value: []byte("never committed")}).FirstErr())
	}
	behind, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: "behind", Keys: 30, Versions: 1})
	i.check(err)
	hello, err := shared.client.Database("admin").RunCommand(i.ctx, bson.D{{Key: "hello", Value: 1}}).Raw()
	i.check(err)
	written, _, _ := hello.Lookup("operationTime").TimestampOK()
	i.eventually("the position lies after the changes", func() bool { return i.position().Position.ClusterTime.T > int64(written) })
	i.stop(d)

	v := harness.Start(t, harness.Options{Env: i.env, Command: []string{"verify", "--since", since, "--output", "json"}})
	i.check(v.WaitForLog(i.ctx, "a transaction is open in topic "+i.site.Topics.Change))
	i.check(other.EndTransaction(i.ctx, kgo.TryAbort))
	code := i.wait(v)
	var result verified
	i.check(json.Unmarshal([]byte(v.Stdout()), &result))
	if code != 0 || !result.Clean || result.Topics[0].Expected != len(behind)+1 {
		t.Errorf("exit code %d: %+v", code, result)
	}
}
