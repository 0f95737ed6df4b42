package instance

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/installation"
)

// dials counts the connections of Kafka clients.
type dials struct{ n atomic.Int32 }

func (d *dials) OnBrokerConnect(kgo.BrokerMetadata, time.Duration, net.Conn, error) { d.n.Add(1) }

// A stand-by that waits for the others' streams to begin asks again and again over the same
// connections.
func TestPlacesAreReadByOneClient(t *testing.T) {
	cfg := config.Default()
	cfg.MongoDB.URI = "mongodb://127.0.0.1:1/?directConnection=true" // which is not asked
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, cfg.Topics.Positions))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg.Kafka.Brokers = cluster.ListenAddrs()
	in, err := installation.Open(cfg, io.Discard, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	s := in.Sink
	count := &dials{}
	s.Kafka = append(s.Kafka, kgo.WithHooks(count))
	if s.Reader, err = kgo.NewClient(s.Kafka...); err != nil {
		t.Fatal(err)
	}
	defer s.Reader.Close()
	streams, err := in.NewStreams(installation.StreamFacts{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Clients.Disconnect(t.Context(), new(error))
	look := func() {
		t.Helper()
		if err := s.Handover.Look(t.Context()); err != nil {
			t.Error(err)
		}
		for _, stream := range streams {
			if err := s.NotePlace(t.Context(), stream); err != nil {
				t.Error(err)
			}
		}
	}
	look()
	first := count.n.Load()
	for range 10 {
		look()
	}
	if n := count.n.Load(); first == 0 || n != first {
		t.Errorf("%d connections after the first look, %d after ten more", first, n)
	}
}
