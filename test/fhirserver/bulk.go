package fhirserver

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Bulk is a load of Consents: Keys resources of Versions versions each. Version by
// version all resources are written, so that the changes of a resource have those
// of all others between them.
type Bulk struct {
	// Prefix begins the ids: <Prefix>-000001 and so on.
	Prefix         string
	Keys, Versions int
	// Chunk is how many changes go to MongoDB at once; default 500.
	Chunk int
	// History also writes the history, after each chunk.
	History bool
	// Written, if set, is told of each chunk when it has been written.
	Written func([]Resource)
}

// BulkConsents writes a load in a few calls of MongoDB's. It returns the versions in
// the order of the oplog; an error comes with those that are sure to be there.
func (s *Server) BulkConsents(ctx context.Context, b Bulk) ([]Resource, error) {
	if b.Chunk == 0 {
		b.Chunk = 500
	}
	current := make([]Resource, b.Keys)
	var written []Resource
	for v := range b.Versions {
		for keys := range slices.Chunk(indexes(b.Keys), b.Chunk) {
			var models []mongo.WriteModel
			var chunk []Resource
			for _, k := range keys {
				if v == 0 {
					current[k] = s.version("Consent", fmt.Sprintf("%s-%06d", b.Prefix, k+1), Owner, s.Consent(), 1)
					models = append(models, mongo.NewInsertOneModel().SetDocument(current[k].Document))
				} else {
					current[k] = s.next(current[k], nil)
					models = append(models, mongo.NewReplaceOneModel().
						SetFilter(bson.D{{Key: "_id", Value: current[k].Document[0].Value}}).SetReplacement(current[k].Document[1:]))
				}
				chunk = append(chunk, current[k])
			}
			if err := s.writeChunk(ctx, models, chunk, b.History); err != nil {
				return written, err
			}
			written = append(written, chunk...)
			if b.Written != nil {
				b.Written(chunk)
			}
		}
	}
	return written, nil
}

func (s *Server) writeChunk(ctx context.Context, models []mongo.WriteModel, chunk []Resource, history bool) error {
	// Ordered, as it is by default: the oplog has the order of the models.
	if _, err := s.main("Consent").BulkWrite(ctx, models); err != nil {
		return fmt.Errorf("write %d Consents: %w", len(models), err)
	}
	if !history {
		return nil
	}
	documents := make([]bson.D, len(chunk))
	for i, r := range chunk {
		documents[i] = historyDocument(r, "PUT")
	}
	if _, err := s.historyOf("Consent").InsertMany(ctx, documents); err != nil {
		return fmt.Errorf("write the history of %d Consents: %w", len(chunk), err)
	}
	return nil
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
