package faults_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// largeDocuments are written of largeSize bytes each, close to the most that
	// MongoDB takes, and updated with as much again.
	largeDocuments = 24
	largeSize      = 15_900_000
	// largeMemoryLimit is the most memory that the daemon may take with them, in MiB.
	largeMemoryLimit = 160
	// tooLarge is MongoDB's code for an event that it cannot send (BSONObjectTooLarge).
	tooLarge = 10334
)

// TestLargeDocuments carries inserts and updates of documents that are close to the
// limit of MongoDB. The event of such an update has the document and what was set, 32 MB
// in all: a change stream that does not project ends at the first one.
func TestLargeDocuments(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	brokers := sharedBrokers(t)
	// The oplog of one that is shared is for others too.
	mongodb := services.MongoDBForTest(t, services.MongoDBOptions{NeedControl: true, OplogMB: 2000})
	site := harness.NewSite(t, mongodb.URI, brokers)
	i := install(t, exactlyOnce(), site)
	delete(i.env, "FHIR_CDC_KAFKA_COMPRESSION") // its memory counts
	i.startReady(ctx)
	client := connect(t, site.MongoURI)
	s := fhirserver.New(client, fhirserver.Options{Databases: site.Databases, HistoryDelay: fhirserver.NoHistory})
	if err := s.CreateIndexes(ctx); err != nil {
		t.Fatal(err)
	}
	plain, err := client.Database(site.Databases.Main).Watch(ctx, mongo.Pipeline{}, options.ChangeStream().SetFullDocument(options.UpdateLookup).SetBatchSize(0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close(context.WithoutCancel(ctx)) }()
	content := func(letter string) func(bson.D) bson.D {
		return fhirserver.Set("text", bson.D{{Key: "div", Value: strings.Repeat(letter, largeSize)}})
	}
	l := &load{}
	note := func(r fhirserver.Resource, err error) fhirserver.Resource {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		kept := r
		kept.Document = nil
		l.versions = append(l.versions, version{Resource: kept})
		return r
	}
	first, second := content("x"), content("y")
	for n := range largeDocuments {
		r := note(s.Create(ctx, "Consent", fmt.Sprintf("consent-%d", n), fhirserver.Owner, first(s.Consent())))
		note(s.Update(ctx, r, second))
	}
	i.caughtUp(ctx, l)
	i.checkMemory(largeMemoryLimit)
	i.verify(ctx, l)

	for plain.Next(ctx) {
	}
	var server mongo.ServerError
	if !errors.As(plain.Err(), &server) || !server.HasErrorCode(tooLarge) {
		t.Errorf("a stream without projection has ended with %v, want the code %d", plain.Err(), tooLarge)
	}
}
