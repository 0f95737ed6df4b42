package harness_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// failures are what a test would be told.
type failures struct {
	testing.TB
	told []string
}

func (f *failures) Errorf(format string, args ...any) {
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

// TestReaderHoldsRecordsAgainstTheContract: whatever a test reads, one record that breaks the
// contract fails it.
func TestReaderHoldsRecordsAgainstTheContract(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "events", "x.positions"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	record := func(topic, key, value string) *kgo.Record {
		return &kgo.Record{
			Topic: topic, Key: []byte(key), Value: []byte(value),
			Headers: []kgo.RecordHeader{{Key: "version", Value: []byte("R4")}, {Key: "event_id", Value: []byte("1d2beab3-2b77-5d4c-9ed5-a8a5b0a6f8b1")}},
		}
	}
	const event = `{"eventId":"a-1","timestamp":"2026-10-26T05:33:20.000Z","resourceType":"Patient","resourceId":"a","operation":"update","versionId":"3","patientReference":null,"sourceOwner":null}`
	broken := strings.Replace(event, `"update"`, `"upsert"`, 1)
	records := []*kgo.Record{
		record("events", "Patient/a", event), record("events", "Patient/broken", broken),
		record("events", harness.ForeignKey, broken), record("x.positions", "a", "{}"),
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	seen := &failures{TB: t}
	reader := harness.NewReader(seen, cluster.ListenAddrs(), "events", "x.positions")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if read, err := reader.Until(ctx, func(r []harness.Record) bool { return len(r) == len(records) }); err != nil {
		t.Fatalf("%d records: %v", len(read), err)
	}
	if len(seen.told) != 1 || !strings.Contains(seen.told[0], "Patient/broken") {
		t.Errorf("told of %d records: %q", len(seen.told), seen.told)
	}
}
