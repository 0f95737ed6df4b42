package installation

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// The topics are read at the same time, so that brokers that hang are waited for once: here no
// connection is made before there is one for each topic.
func TestNewestReadsTopicsTogether(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "fhir-cdc.positions", "fhir-cdc.audit", "fhir-cdc.dead-letters"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg, err := config.Load(config.LoadOptions{Environ: []string{
		"ENABLE_EVENTS_KAFKA=1", "KAFKA_URLS=" + strings.Join(cluster.ListenAddrs(), ","), "MONGO_URL=mongodb://127.0.0.1:1/?directConnection=true",
	}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := Open(cfg, io.Discard, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Clients.Disconnect(context.WithoutCancel(t.Context()), new(error)) })
	var connections atomic.Int32
	together := make(chan struct{})
	in.Sink.Kafka = append(in.Sink.Kafka, kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
		if connections.Add(1) == 2 {
			close(together)
		}
		select {
		case <-together:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, host)
	}))
	if _, err := in.Sink.Newest(t.Context(), 1); err != nil {
		t.Error(err)
	}
}
