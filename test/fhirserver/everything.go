package fhirserver

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Request is a patient's GET $everything that has succeeded.
type Request struct {
	// ClientPersonID is the person that the token is for.
	ClientPersonID string
	// SystemID is the server's own id of the request, UserID the caller's.
	SystemID, UserID string
	// At is when the server answered.
	At time.Time
	// Query is the URL's query, without the question mark; empty means none.
	Query string
	// URL is what the caller asked for; empty means the person's proxy patient.
	URL string
}

// NewRequest is a request that is answered now; it leaves no trace yet.
func (s *Server) NewRequest(clientPersonID string) Request {
	return Request{ClientPersonID: clientPersonID, SystemID: uuid.NewString(), UserID: "req-" + uuid.NewString(), At: s.now()}
}

// Everything is a request with the traces that the server leaves of it at the next
// flush: an AuditEvent for each type of resource that was returned, and then, only
// of a request with a body, an access log.
func (s *Server) Everything(ctx context.Context, clientPersonID string, auditEvents int, accessLog bool) (Request, error) {
	r := s.NewRequest(clientPersonID)
	for range auditEvents {
		if err := s.WriteAuditEvent(ctx, r); err != nil {
			return r, err
		}
	}
	if accessLog {
		return r, s.WriteAccessLog(ctx, r)
	}
	return r, nil
}

func (r Request) url() string {
	url := r.URL
	if url == "" {
		url = "/4_0_0/Patient/person." + r.ClientPersonID + "/$everything"
	}
	if r.Query != "" {
		url += "?" + r.Query
	}
	return url
}

// WriteAuditEvent writes one AuditEvent of a request.
func (s *Server) WriteAuditEvent(ctx context.Context, r Request) error {
	if _, err := s.client.Database(s.opts.Databases.AuditEvents).Collection(collectionOf("AuditEvent")).InsertOne(ctx, s.AuditEvent(r)); err != nil {
		return fmt.Errorf("write an AuditEvent: %w", err)
	}
	return nil
}

func (s *Server) accessLogs() *mongo.Collection {
	return s.client.Database(s.opts.Databases.AccessLogs).Collection("access-logs")
}

// WriteAccessLog writes the access log of a request.
func (s *Server) WriteAccessLog(ctx context.Context, r Request) error {
	if _, err := s.accessLogs().InsertOne(ctx, s.AccessLog(r)); err != nil {
		return fmt.Errorf("write an access log: %w", err)
	}
	return nil
}

// AuditEvent is one AuditEvent of a request; they differ by their ids only.
func (s *Server) AuditEvent(r Request) bson.D {
	id := uuid.NewString()
	version := Resource{Type: "AuditEvent", VersionID: "1", LastUpdated: r.At}
	return bson.D{
		{Key: "_id", Value: bson.NewObjectID()},
		{Key: "resourceType", Value: "AuditEvent"},
		{Key: "id", Value: id},
		{Key: "meta", Value: meta(version, BwellOwner)},
		{Key: "recorded", Value: r.At},
		{Key: "agent", Value: bson.A{bson.D{
			{Key: "who", Value: reference("Patient", "person."+r.ClientPersonID, BwellOwner)},
			{Key: "altId", Value: "sub-1"},
			{Key: "name", Value: s.opts.Marker},
			{Key: "requestor", Value: true},
		}}},
		{Key: "type", Value: bson.D{{Key: "system", Value: "http://dicom.nema.org/resources/ontology/DCM"}, {Key: "code", Value: "110112"}}},
		{Key: "action", Value: "R"},
		{Key: "entity", Value: bson.A{bson.D{
			{Key: "what", Value: append(reference("Patient", "pat-1", Owner), bson.E{Key: "display", Value: s.opts.Marker})},
			{Key: "name", Value: s.opts.Marker},
			{Key: "description", Value: s.opts.Marker},
			{Key: "detail", Value: bson.A{
				detail("requestUrl", r.url()), detail("requestId", r.SystemID), detail("base_version", "4_0_0"),
			}},
		}}},
		{Key: "_sourceId", Value: id},
		{Key: "_access", Value: bson.D{{Key: BwellOwner, Value: 1}}},
		{Key: "_sourceAssigningAuthority", Value: BwellOwner},
		{Key: "_uuid", Value: id},
	}
}

// AccessLog is the access log of a request.
func (s *Server) AccessLog(r Request) bson.D {
	body := `{"name":"` + s.opts.Marker + `"}`
	return bson.D{
		{Key: "_id", Value: bson.NewObjectID()},
		{Key: "timestamp", Value: r.At},
		{Key: "outcomeDesc", Value: "Success"},
		{Key: "agent", Value: bson.D{
			{Key: "altId", Value: r.ClientPersonID},
			{Key: "networkAddress", Value: "::ffff:127.0.0.1"},
			{Key: "scopes", Value: "patient/*.* user/*.* access/*.*"},
		}},
		{Key: "details", Value: bson.D{
			{Key: "params", Value: bson.D{{Key: "name", Value: s.opts.Marker}}},
			{Key: "contentType", Value: "application/fhir+json"},
			{Key: "body", Value: body},
			{Key: "operationResult", Value: body},
		}},
		{Key: "request", Value: bson.D{
			{Key: "id", Value: r.UserID},
			{Key: "systemGeneratedRequestId", Value: r.SystemID},
			{Key: "url", Value: r.url()},
			{Key: "start", Value: Instant(r.At)},
			{Key: "end", Value: Instant(r.At)},
			{Key: "resourceType", Value: "Patient"},
			{Key: "operation", Value: "READ"},
			{Key: "method", Value: "GET"},
		}},
	}
}

func detail(name, value string) bson.D {
	return bson.D{{Key: "type", Value: name}, {Key: "valueString", Value: value}}
}
