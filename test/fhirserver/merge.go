package fhirserver

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/wait"
)

// Merge is a $merge of new Consents: one request that writes all main documents, one after
// the other, and when it is through with them all history at once.
type Merge struct {
	server    *Server
	resources []Resource
	began     time.Time
}

// Merge writes the main documents, each at its time after the first; with at shorter than
// n the others follow at once.
func (s *Server) Merge(ctx context.Context, prefix string, n int, at ...time.Duration) (*Merge, error) {
	m := &Merge{server: s}
	request := uuid.NewString()
	for i := range n {
		if i < len(at) && at[i] > 0 {
			if err := m.pause(ctx, at[i]); err != nil {
				return m, err
			}
		}
		r := s.version("Consent", fmt.Sprintf("%s-%d", prefix, i), Owner, s.Consent(), 1)
		r.RequestID = request
		if _, err := s.main(r.Type).InsertOne(ctx, r.Document); err != nil {
			return m, fmt.Errorf("merge %s/%s: %w", r.Type, r.ID, err)
		}
		if i == 0 {
			m.began = time.Now()
		}
		m.resources = append(m.resources, r)
	}
	return m, nil
}

// Resources are those that were written, in the order of the oplog.
func (m *Merge) Resources() []Resource { return m.resources }

// History writes the history, so long after the first main document.
func (m *Merge) History(ctx context.Context, after time.Duration) error {
	if err := m.pause(ctx, after); err != nil {
		return err
	}
	var documents []bson.D
	for _, r := range m.resources {
		documents = append(documents, historyDocument(r, "POST"))
	}
	if _, err := m.server.historyOf("Consent").InsertMany(ctx, documents); err != nil {
		return fmt.Errorf("write the history of %d Consents: %w", len(documents), err)
	}
	return nil
}

// pause lasts until a time after the first main document.
func (m *Merge) pause(ctx context.Context, after time.Duration) error {
	return wait.Sleep(ctx, time.Until(m.began.Add(after)))
}
