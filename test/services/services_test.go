package services_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// again is one way of ending a server and starting it again.
type again struct {
	name string
	do   func(ctx context.Context, s *services.Server) error
}

func ways() []again {
	return []again{
		{"restart", func(ctx context.Context, s *services.Server) error { return s.Restart(ctx) }},
		{"kill and start", func(ctx context.Context, s *services.Server) error {
			if err := s.Kill(ctx); err != nil {
				return err
			}
			return s.Start(ctx)
		}},
	}
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestMongoDBKeepsDataAndPort(t *testing.T) {
	m := services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true, Progress: func(s string) { t.Log(s) }})
	ctx := deadline(t)
	client, err := mongo.Connect(options.Client().ApplyURI(m.URI))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	coll := client.Database("services").Collection("c")
	if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	for _, way := range ways() {
		pid := m.Pid()
		begin := time.Now()
		if err := way.do(ctx, m.Server); err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		t.Logf("%s took %v", way.name, time.Since(begin).Round(time.Millisecond))
		if m.Pid() == pid {
			t.Errorf("%s: the process id is still %d", way.name, pid)
		}
		n, err := coll.CountDocuments(ctx, bson.D{})
		if err != nil || n != 1 {
			t.Fatalf("%s: %d documents (%v), want 1", way.name, n, err)
		}
	}
	stream, err := coll.Watch(ctx, mongo.Pipeline{})
	if err != nil {
		t.Fatalf("no change stream: %v", err)
	}
	_ = stream.Close(ctx)

	t.Setenv(services.EnvSource, "env")
	t.Setenv(services.EnvMongoDBURI, m.URI)
	if given := services.MongoDBForTest(t, services.MongoDBOptions{}); given.URI != m.URI || given.CanControl() {
		t.Errorf("by its address: got %s, controlled %v", given.URI, given.CanControl())
	}
}

func TestKafkaKeepsDataAndPort(t *testing.T) {
	k := services.KafkaForTest(t, services.KafkaOptions{NeedControl: true, Progress: func(s string) { t.Log(s) }})
	ctx := deadline(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, way := range ways() {
		begin := time.Now()
		if err := way.do(ctx, k.Server); err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		t.Logf("%s took %v", way.name, time.Since(begin).Round(time.Millisecond))
		ends, err := admin.ListEndOffsets(ctx, "t")
		if err != nil || ends.Error() != nil {
			t.Fatalf("%s: %v %v", way.name, err, ends.Error())
		}
		if end, _ := ends.Lookup("t", 0); end.Offset != 1 {
			t.Fatalf("%s: the topic ends at %d, want 1", way.name, end.Offset)
		}
	}

	t.Setenv(services.EnvSource, "env")
	t.Setenv(services.EnvKafkaBrokers, k.Brokers[0])
	if given := services.KafkaForTest(t, services.KafkaOptions{}); given.Brokers[0] != k.Brokers[0] || given.CanControl() {
		t.Errorf("by its address: got %v, controlled %v", given.Brokers, given.CanControl())
	}
}
