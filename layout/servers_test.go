package layout

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

func TestHandoversInMongoDB(t *testing.T) {
	server := services.MongoDBForTest(t, services.MongoDBOptions{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI))
	if err != nil {
		t.Fatal(err)
	}
	db := client.Database(fmt.Sprintf("handovers_%d", time.Now().UnixNano()))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := db.Drop(ctx); err != nil {
			t.Error(err)
		}
		if err := client.Disconnect(ctx); err != nil {
			t.Error(err)
		}
	})
	handovers(t, 2, func(stream string) resumetoken.Keeper {
		return resumetoken.NewMongoDB(db.Collection("positions"), stream, "one")
	})
}

func TestHandoversInKafka(t *testing.T) {
	server := services.KafkaForTest(t, services.KafkaOptions{})
	reach := []kgo.Opt{kgo.SeedBrokers(server.Brokers...)}
	client, err := kgo.NewClient(reach...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topic, compact := fmt.Sprintf("handovers.%d", time.Now().UnixNano()), "compact"
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 3, 1, map[string]*string{"cleanup.policy": &compact}, topic); err != nil {
		t.Fatal(err)
	}
	handovers(t, 1, func(stream string) resumetoken.Keeper {
		k, err := resumetoken.NewKafka(resumetoken.KafkaOptions{ClientOptions: reach, Topic: topic, Name: "test", Stream: stream, Instance: "one"})
		if err != nil {
			t.Fatal(err)
		}
		return k
	})
}
