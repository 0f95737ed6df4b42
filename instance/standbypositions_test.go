package instance

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// dials counts the connections of Kafka clients.
type dials struct{ n atomic.Int32 }

func (d *dials) OnBrokerConnect(kgo.BrokerMetadata, time.Duration, net.Conn, error) { d.n.Add(1) }

// installed is an installation with a Kafka of its own, and a MongoDB that is not asked.
func installed(t *testing.T) (*installation.Installation, []*daemon.Stream, *dials) {
	t.Helper()
	cfg := config.Default()
	cfg.MongoDB.URI = "mongodb://127.0.0.1:1/?directConnection=true"
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, cfg.Topics.Positions))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg.Kafka.Brokers = cluster.ListenAddrs()
	in, err := installation.Open(cfg, io.Discard, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	s, count := in.Sink, &dials{}
	s.Kafka = append(s.Kafka, kgo.WithHooks(count))
	if s.Reader, err = kgo.NewClient(s.Kafka...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Reader.Close)
	streams, err := in.NewStreams(installation.StreamFacts{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Clients.Disconnect(context.Background(), new(error)) })
	return in, streams, count
}

// A stand-by that waits for the others' streams to begin asks again and again over the same
// connections.
func TestPlacesAreReadByOneClient(t *testing.T) {
	in, streams, count := installed(t)
	s := in.Sink
	look := func() {
		t.Helper()
		if err := s.Handover.Look(t.Context()); err != nil {
			t.Error(err)
		}
		for _, stream := range streams {
			if err := s.NotePosition(t.Context(), stream); err != nil {
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

// A stream that was handed over before it began has no position: a stand-by is not ready, because
// changes until the stream begins have no events.
func TestSealOfAStreamThatNeverBeganIsNoPlace(t *testing.T) {
	in, streams, _ := installed(t)
	stream := streams[0]
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "8200000007"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stored      resumetoken.Position
		hasPosition bool
	}{
		{resumetoken.Position{HandedTo: 1}, false},
		{resumetoken.Position{HandedTo: 2, Token: token, ClusterTime: bson.Timestamp{T: 7}}, true},
	} {
		store, err := in.Sink.Store(stream.Name())
		if err != nil {
			t.Fatal(err)
		}
		c.stored.Stream = stream.Name()
		if _, err = store.Acquire(t.Context()); err != nil && !errors.Is(err, resumetoken.ErrNone) {
			t.Fatal(err)
		}
		if err := errors.Join(store.Save(t.Context(), c.stored), store.Close(t.Context()), in.Sink.NotePosition(t.Context(), stream)); err != nil {
			t.Fatal(err)
		}
		if has := stream.Progress().HasPosition; has != c.hasPosition {
			t.Errorf("handed over with the token %v: has a position %v", c.stored.Token, has)
		}
	}
}
