package majority_test

import (
	"context"
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// A primary may not have heard of a time that another one had: its own comes later. It is
// waited for, and the end of the wait is asked for by the context alone.
func TestAwaitTimeToCome(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI(services.MongoDBForTest(t, services.MongoDBOptions{}).URI))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	c := client.Database("majority-" + bson.NewObjectID().Hex()).Collection("documents")
	t.Cleanup(func() { _ = c.Database().Drop(context.Background()) })
	at, err := majority.Newest(t.Context(), client)
	if err != nil || at.IsZero() {
		t.Fatal(at, err)
	}
	if err := majority.Await(t.Context(), c, at, "test", func() { t.Log("waits for what is there") }); err != nil {
		t.Error(err)
	}
	// Anything may be written meanwhile: a time to come is one that no clock shows yet.
	at.T += 3
	waited := 0
	err = majority.Await(t.Context(), c, at, "test", func() {
		waited++
		if _, err := c.InsertOne(t.Context(), bson.D{}); err != nil {
			t.Error(err)
		}
	})
	if err != nil || waited == 0 {
		t.Errorf("waited %d times, error %v", waited, err)
	}
	ended := errors.New("ended")
	ctx, end := context.WithCancelCause(t.Context())
	at.T += 3600
	if err := majority.Await(ctx, c, at, "test", func() { end(ended) }); !errors.Is(err, ended) {
		t.Errorf("ended with %v", err)
	}
}
