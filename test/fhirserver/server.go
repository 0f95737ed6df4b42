package fhirserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Databases are the FHIR server's databases.
type Databases struct{ Main, History, AuditEvents, AccessLogs string }

// DefaultDatabases are those of the recorded server.
func DefaultDatabases() Databases {
	return Databases{Main: "fhir", History: "resource-history", AuditEvents: "audit-event", AccessLogs: "access-logs"}
}

// NoHistory as Options.HistoryDelay is a server that dies before it writes history.
const NoHistory time.Duration = -1

// Options are the settings of a Server. The zero value is ready for use.
type Options struct {
	// Databases default to DefaultDatabases.
	Databases Databases
	// HistoryDelay is the time from the main document to its history: 0 writes both
	// before a call returns, NoHistory writes none.
	HistoryDelay time.Duration
	// Marker stands in every place of a document that holds what is somebody's own:
	// names, free text, bodies. The default is "Doe".
	Marker string
	// Now is the server's clock; default time.Now.
	Now func() time.Time
}

// Server writes as the FHIR server does. It may be used by several goroutines.
type Server struct {
	client *mongo.Client
	opts   Options

	pending sync.WaitGroup
	mu      sync.Mutex
	errs    []error // of history written later
}

// New returns a Server that writes through client.
func New(client *mongo.Client, o Options) *Server {
	if o.Databases == (Databases{}) {
		o.Databases = DefaultDatabases()
	}
	if o.Marker == "" {
		o.Marker = "Doe"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{client: client, opts: o}
}

// Flush waits for history that is still to be written, and returns the errors of
// what has been.
func (s *Server) Flush() error {
	s.pending.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// Resource is one version of a resource, as it stands in its main document.
type Resource struct {
	Type, ID, UUID, VersionID string
	// Namespace is the main document's, "database.collection".
	Namespace   string
	LastUpdated time.Time
	// RequestID is the id by which the caller of the server knows the request; it
	// is what the history holds. ExportStatus has no history.
	RequestID string
	// Document is the main document.
	Document bson.D
}

// Create inserts the first version of a resource and then its history. content is
// the resource without id, meta and the server's own fields. It returns what was
// written.
func (s *Server) Create(ctx context.Context, resourceType, id, owner string, content bson.D) (Resource, error) {
	return s.create(ctx, resourceType, id, owner, content, historyDocument)
}

func (s *Server) create(ctx context.Context, resourceType, id, owner string, content bson.D, form historyForm) (Resource, error) {
	r := s.version(resourceType, id, owner, content, 1)
	if _, err := s.main(resourceType).InsertOne(ctx, r.Document); err != nil {
		return r, fmt.Errorf("create %s/%s: %w", resourceType, id, err)
	}
	return r, s.history(ctx, r, form(r, "PUT"))
}

// Replace writes the next version of a resource and then its history. change, if
// not nil, makes the new content of the old.
func (s *Server) Replace(ctx context.Context, r Resource, change func(bson.D) bson.D) (Resource, error) {
	return s.replace(ctx, r, change, historyDocument)
}

func (s *Server) replace(ctx context.Context, r Resource, change func(bson.D) bson.D, form historyForm) (Resource, error) {
	next := s.next(r, change)
	if _, err := s.main(r.Type).ReplaceOne(ctx, bson.D{{Key: "_uuid", Value: r.UUID}}, next.Document[1:]); err != nil {
		return next, fmt.Errorf("replace %s/%s: %w", r.Type, r.ID, err)
	}
	return next, s.history(ctx, next, form(next, "PUT"))
}

// historyForm makes the history document of a version, by the method of its request.
type historyForm func(r Resource, method string) bson.D

// Update writes the next version as another writer than the FHIR server may: it sets what
// is new, with no history.
func (s *Server) Update(ctx context.Context, r Resource, change func(bson.D) bson.D) (Resource, error) {
	next := s.next(r, change)
	set := bson.D{{Key: "$set", Value: next.Document[1:]}}
	if _, err := s.main(r.Type).UpdateOne(ctx, bson.D{{Key: "_uuid", Value: r.UUID}}, set); err != nil {
		return next, fmt.Errorf("update %s/%s: %w", r.Type, r.ID, err)
	}
	return next, nil
}

// Delete writes the history of a deletion and then deletes the resource.
func (s *Server) Delete(ctx context.Context, r Resource) error {
	r.RequestID = uuid.NewString()
	r.LastUpdated = s.now()
	r.Document = withLastUpdated(r.Document, r.LastUpdated)
	if err := s.history(ctx, r, historyDocument(r, "DELETE")); err != nil {
		return err
	}
	if _, err := s.main(r.Type).DeleteOne(ctx, bson.D{{Key: "_uuid", Value: r.UUID}}); err != nil {
		return fmt.Errorf("delete %s/%s: %w", r.Type, r.ID, err)
	}
	return nil
}

// Insert writes a document of the caller's own making, such as a malformed one,
// to a collection of the main database.
func (s *Server) Insert(ctx context.Context, collection string, document bson.D) error {
	if _, err := s.client.Database(s.opts.Databases.Main).Collection(collection).InsertOne(ctx, document); err != nil {
		return fmt.Errorf("insert into %s: %w", collection, err)
	}
	return nil
}

func (s *Server) main(resourceType string) *mongo.Collection {
	return s.client.Database(s.opts.Databases.Main).Collection(collectionOf(resourceType))
}

func collectionOf(resourceType string) string { return resourceType + "_4_0_0" }

// now is the clock as BSON keeps it: in milliseconds.
func (s *Server) now() time.Time { return s.opts.Now().UTC().Truncate(time.Millisecond) }

// history writes the history of a version, now or later.
func (s *Server) history(ctx context.Context, r Resource, document bson.D) error {
	delay := s.opts.HistoryDelay
	if r.Type == exportStatus || delay < 0 {
		return nil
	}
	write := func(ctx context.Context) error {
		if _, err := s.historyOf(r.Type).InsertOne(ctx, document); err != nil {
			return fmt.Errorf("write history of %s/%s: %w", r.Type, r.ID, err)
		}
		return nil
	}
	if delay == 0 {
		return write(ctx)
	}
	s.pending.Add(1)
	time.AfterFunc(delay, func() {
		defer s.pending.Done()
		// The answer has gone out: the caller's context is no longer of interest.
		if err := write(context.WithoutCancel(ctx)); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.errs = append(s.errs, err)
		}
	})
	return nil
}

func (s *Server) historyOf(resourceType string) *mongo.Collection {
	return s.client.Database(s.opts.Databases.History).Collection(collectionOf(resourceType) + "_History")
}
