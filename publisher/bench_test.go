package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// benchBatches are batches of events of the usual size, 555 bytes.
func benchBatches(b *testing.B, size int) []*Batch {
	batches := make([]*Batch, 4)
	for i := range batches {
		names := make([]string, size)
		for j := range names {
			names[j] = fmt.Sprintf("%08d-%08d-%020d", i, j, (i*size+j)*7919)
		}
		batches[i] = batch(b, 1000, names...)
		for j := range batches[i].Events {
			e := &batches[i].Events[j]
			e.Headers = []mapper.Header{
				{Key: "b3", Value: e.Key}, {Key: "version", Value: []byte("R4")}, {Key: "content-type", Value: []byte("application/fhir+json")},
			}
			e.Value = append(e.Value, bytes.Repeat([]byte("AuditEvent "), 48)...)
		}
	}
	return batches
}

func benchKafka(b *testing.B) []kgo.Opt {
	b.Helper()
	server := services.KafkaForTest(b, services.KafkaOptions{Properties: map[string]string{"add.partitions.to.txn.retry.backoff.ms": "2"}})
	opts, err := ClientOptions(Connection{Brokers: server.Brokers}, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	req := requirements()
	req.Create = true
	if _, err := CheckTopics(b.Context(), opts, req); err != nil {
		b.Fatal(err)
	}
	return opts
}

// BenchmarkCommit measures whole batches against a real broker, the client alone
// beside them. events/s counts.
func BenchmarkCommit(b *testing.B) {
	opts := benchKafka(b)
	for _, size := range []int{1, 100, 1000, 10000} {
		batches := benchBatches(b, size)
		report := func(b *testing.B) {
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		}
		for _, linger := range []time.Duration{0, 5 * time.Millisecond} {
			o := Options{Stream: "main", Linger: linger}
			b.Run(fmt.Sprintf("transactional/events=%d/linger=%s", size, linger), func(b *testing.B) {
				p, err := NewTransactional(resumetoken.KafkaOptions{ClientOptions: opts, Topic: posTopic, Name: "bench", Stream: "main"}, o)
				if err != nil {
					b.Fatal(err)
				}
				defer closePublisher(b, p)
				if _, err := p.Acquire(b.Context()); err != nil && !errors.Is(err, resumetoken.ErrNone) {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := p.Commit(b.Context(), batches[i%len(batches)]); err != nil {
						b.Fatal(err)
					}
				}
				report(b)
			})
			b.Run(fmt.Sprintf("client/events=%d/linger=%s", size, linger), func(b *testing.B) {
				producer, err := o.producer()
				if err != nil {
					b.Fatal(err)
				}
				client := plainClient(b, append(producer, opts...)...)
				var buffer recordBuffer
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					records, err := buffer.fill(batches[i%len(batches)], &o)
					if err != nil {
						b.Fatal(err)
					}
					if err := resumetoken.Deliver(b.Context(), client, records); err != nil {
						b.Fatal(err)
					}
				}
				report(b)
			})
		}
	}
}
