package fhirserver

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	exportStatus = "ExportStatus"
	// Owner is the tenant that the resources belong to.
	Owner = "acme"
	// BwellOwner is the owner of master persons.
	BwellOwner = "bwell"
	// Organization is the id of the tenant's organization.
	Organization = "org-1"
)

// CreateConsent is PUT Consent/<id> for an id that is new.
func (s *Server) CreateConsent(ctx context.Context, id string) (Resource, error) {
	return s.Create(ctx, "Consent", id, Owner, s.Consent())
}

// ReplaceConsent is PUT Consent/<id> with a change.
func (s *Server) ReplaceConsent(ctx context.Context, r Resource) (Resource, error) {
	return s.Replace(ctx, r, Set("status", "inactive"))
}

// Consent is the content of a Consent, the marker in all places for what is
// somebody's own.
func (s *Server) Consent() bson.D {
	marker := s.opts.Marker
	return bson.D{
		{Key: "status", Value: "active"},
		{Key: "text", Value: bson.D{{Key: "status", Value: "generated"}, {Key: "div", Value: "<div>" + marker + "</div>"}}},
		{Key: "contained", Value: bson.A{bson.D{
			{Key: "resourceType", Value: "Patient"},
			{Key: "id", Value: "p"},
			{Key: "name", Value: bson.A{bson.D{{Key: "family", Value: marker}, {Key: "given", Value: bson.A{marker}}}}},
		}}},
		{Key: "extension", Value: bson.A{bson.D{{Key: "url", Value: "http://acme.test/nickname"}, {Key: "valueString", Value: marker}}}},
		{Key: "scope", Value: coding("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")},
		{Key: "category", Value: bson.A{coding("http://loinc.org", "59284-0")}},
		{Key: "patient", Value: append(reference("Patient", "pat-1", Owner), bson.E{Key: "display", Value: marker})},
		{Key: "dateTime", Value: "2024-01-02T03:04:05Z"},
	}
}

// CreateExportStatus is $export: the job exists and is accepted.
func (s *Server) CreateExportStatus(ctx context.Context, id string) (Resource, error) {
	return s.Create(ctx, exportStatus, id, BwellOwner, s.ExportStatus())
}

// SetStatus writes an ExportStatus's next status.
func (s *Server) SetStatus(ctx context.Context, r Resource, status string) (Resource, error) {
	return s.Replace(ctx, r, Set("status", status))
}

// ExportStatus is the content of an ExportStatus that has been accepted.
func (s *Server) ExportStatus() bson.D {
	return bson.D{
		{Key: "status", Value: "accepted"},
		{Key: "request", Value: "http://fhir.test/4_0_0/$export?_type=Patient"},
		{Key: "requiresAccessToken", Value: false},
		{Key: "scope", Value: "user/*.* access/*.*"},
		{Key: "user", Value: s.opts.Marker},
		{Key: "transactionTime", Value: s.now().Format("2006-01-02T15:04:05.000Z")},
		{Key: "output", Value: bson.A{}},
		{Key: "errors", Value: bson.A{bson.D{{Key: "url", Value: "s3://bucket/" + s.opts.Marker}}}},
	}
}

// CreatePerson is the person of a tenant, managed by Organization.
func (s *Server) CreatePerson(ctx context.Context, id string) (Resource, error) {
	return s.Create(ctx, "Person", id, Owner, bson.D{
		{Key: "name", Value: bson.A{bson.D{{Key: "family", Value: s.opts.Marker}}}},
		{Key: "link", Value: bson.A{bson.D{{Key: "target", Value: reference("Patient", "pat-1", Owner)}, {Key: "assurance", Value: "level4"}}}},
		{Key: "managingOrganization", Value: reference("Organization", Organization, Owner)},
	})
}

// CreateMasterPerson is the person of owner bwell that links to a tenant's one.
func (s *Server) CreateMasterPerson(ctx context.Context, id string, client Resource) (Resource, error) {
	return s.Create(ctx, "Person", id, BwellOwner, bson.D{
		{Key: "name", Value: bson.A{bson.D{{Key: "family", Value: s.opts.Marker}}}},
		{Key: "link", Value: bson.A{bson.D{{Key: "target", Value: reference("Person", client.UUID, BwellOwner)}, {Key: "assurance", Value: "level4"}}}},
	})
}

func coding(system, code string) bson.D {
	return bson.D{{Key: "coding", Value: bson.A{bson.D{{Key: "system", Value: system}, {Key: "code", Value: code}}}}}
}

// Instant is a time as the server writes it into JSON.
func Instant(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }
