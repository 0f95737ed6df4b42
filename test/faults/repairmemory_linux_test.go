package faults_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// chartMemory is the limit of the chart in MiB.
	chartMemory = 256
	// idMemory is what a repair may take for an event that the topics hold, in bytes.
	idMemory = 20
	// runtimeShare is what the daemon has the runtime keep to of its container's limit.
	runtimeShare = 0.85
)

// TestRepairMemory has a repair find many events in the topics.
func TestRepairMemory(t *testing.T) {
	t.Parallel()
	const n = 500_000
	// Beside the ids there is what a stream takes that drains a backlog.
	repairMemory(long(t), t, n, memoryLimit+n*idMemory>>20)
}

// TestSoakRepairMemory has as many as fit into a container with the limit of the chart.
func TestSoakRepairMemory(t *testing.T) {
	if !soaking() {
		t.Skip("takes minutes; make soak runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	t.Cleanup(cancel)
	repairMemory(ctx, t, 8_000_000, chartMemory)
}

// repairMemory has a repair find n events of others in the topics, and checks that it keeps
// to the limit of its container, in MiB.
func repairMemory(ctx context.Context, t *testing.T, n, limit int) {
	t.Helper()
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	brokers := sharedBrokers(t)
	i := install(t, exactlyOnce(), harness.NewSite(t, m.URI, brokers))
	i.env["GOMEMLIMIT"] = strconv.Itoa(int(math.Floor(float64(limit) * (1 << 20) * runtimeShare)))
	client := connect(t, m.URI)
	server := fhirserver.New(client, fhirserver.Options{Databases: i.site.Databases})
	if code, err := i.startReady(ctx).Stop(ctx); err != nil || code != 0 {
		t.Fatalf("stopped with exit code %d, error %v", code, err)
	}
	begin := time.Now()
	fill(ctx, t, brokers, i.site.Topics.Change, n)
	t.Logf("%d events are in the topic after %v", n, time.Since(begin).Round(time.Second))
	if _, err := server.CreateConsent(ctx, "con-1"); err != nil {
		t.Fatal(err)
	}
	if err := (gone{code: 286}).answer(ctx, client.Database("admin"), "fhir-cdc/"+i.site.Name); err != nil {
		t.Fatal(err)
	}
	d := i.start()
	if err := d.WaitForLog(ctx, logRepaired); err != nil {
		t.Fatal(err)
	}
	t.Log(lastLog(d, "read back what the topics hold"))
	t.Log(lastLog(d, logRepaired))
	for _, entry := range d.Entries() {
		if entry["msg"] == "read back what the topics hold" && entry["events"] != float64(n) {
			t.Errorf("it has read %v ids back, want %d", entry["events"], n)
		}
	}
	i.checkMemory(limit)
}

// fill writes records with the ids of events.
func fill(ctx context.Context, t *testing.T, brokers []string, topic string, n int) {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(50_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	first := kgo.FirstErrPromise{}
	var name [8]byte
	for k := range n {
		binary.BigEndian.PutUint64(name[:], uint64(k))
		id := uuid.NewSHA1(uuid.NameSpaceOID, name[:]).String()
		producer.Produce(ctx, &kgo.Record{
			Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte(id)}},
		}, first.Promise())
	}
	if err := first.Err(); err != nil {
		t.Fatal(fmt.Errorf("fill %s: %w", topic, err))
	}
}
