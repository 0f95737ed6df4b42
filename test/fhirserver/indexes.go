package fhirserver

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// CreateIndexes makes the indexes that the FHIR server has and that matter to the
// daemon's look-ups and to writing many documents.
func (s *Server) CreateIndexes(ctx context.Context) error {
	unique := options.Index().SetUnique(true)
	for _, index := range []struct {
		collection *mongo.Collection
		field      string
		options    *options.IndexOptionsBuilder
	}{
		{s.main("Consent"), "_uuid", unique},
		{s.main(exportStatus), "_uuid", unique},
		{s.main("Person"), "_uuid", unique},
		{s.main("Person"), "_sourceId", nil},
		{s.main("Person"), "link.target._uuid", nil},
		{s.historyOf("Consent"), "id", nil},
		{s.historyOf("Consent"), "resource._uuid", nil},
		{s.historyOf("Consent"), "resource.meta.lastUpdated", nil},
		{s.historyOf("Person"), "resource._uuid", nil},
		{s.historyOf("Person"), "resource.meta.lastUpdated", nil},
		{s.accessLogs(), "request.id", nil},
	} {
		model := mongo.IndexModel{Keys: bson.D{{Key: index.field, Value: 1}}, Options: index.options}
		if _, err := index.collection.Indexes().CreateOne(ctx, model); err != nil {
			return fmt.Errorf("create index %s of %s: %w", index.field, index.collection.Name(), err)
		}
	}
	return nil
}
