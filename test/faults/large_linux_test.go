package faults_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
)

const (
	// largeDocuments are written of largeSize bytes each, close to the most that
	// MongoDB takes.
	largeDocuments = 24
	largeSize      = 15_900_000
	// largeMemoryLimit is the most memory that the daemon may take with them, in MiB.
	largeMemoryLimit = 160
)

// TestLargeDocuments carries inserts and replacements of documents that are close to
// the limit of MongoDB.
func TestLargeDocuments(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t, 5*time.Minute)
	i := install(t, exactlyOnce(), sharedSite(t))
	delete(i.env, "FHIR_CDC_KAFKA_COMPRESSION") // its memory counts
	i.startReady(ctx)
	s := fhirserver.New(connect(t, i.site.MongoURI), fhirserver.Options{Databases: i.site.Databases, HistoryDelay: fhirserver.NoHistory})
	if err := s.CreateIndexes(ctx); err != nil {
		t.Fatal(err)
	}
	content := fhirserver.Set("text", bson.D{{Key: "div", Value: strings.Repeat("x", largeSize)}})
	l := &load{}
	note := func(r fhirserver.Resource, err error) fhirserver.Resource {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		l.versions = append(l.versions, version{Resource: r})
		return r
	}
	for n := range largeDocuments / 2 {
		r := note(s.Create(ctx, "Consent", fmt.Sprintf("consent-%d", n), fhirserver.Owner, content(s.Consent())))
		note(s.Replace(ctx, r, content))
	}
	i.caughtUp(ctx, l)
	i.checkMemory(largeMemoryLimit)
	i.verify(ctx, l)
}
