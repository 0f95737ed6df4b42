package fhirserver

import (
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Link is POST /admin/createPersonToPatientLink for a person that there is.
func (s *Server) Link(ctx context.Context, person Resource, patient string) (Resource, error) {
	return s.changeLinks(ctx, person, func(links bson.A) bson.A {
		return append(links, bson.D{{Key: "target", Value: reference("Patient", patient, Owner)}})
	})
}

// Unlink is POST /admin/removePersonToPatientLink.
func (s *Server) Unlink(ctx context.Context, person Resource, patient string) (Resource, error) {
	return s.changeLinks(ctx, person, func(links bson.A) bson.A {
		return slices.DeleteFunc(links, func(link any) bool {
			target, _ := field(link.(bson.D), "target").(bson.D)
			return field(target, "reference") == "Patient/"+patient || field(target, "_uuid") == "Patient/"+patient
		})
	})
}

// CreateLinked is POST /admin/createPersonToPatientLink where there is no such person.
func (s *Server) CreateLinked(ctx context.Context, id, patient string) (Resource, error) {
	links := bson.A{bson.D{{Key: "target", Value: reference("Patient", patient, Owner)}}}
	return s.create(ctx, "Person", id, Owner, bson.D{{Key: "link", Value: links}}, adminHistory)
}

func (s *Server) changeLinks(ctx context.Context, person Resource, change func(bson.A) bson.A) (Resource, error) {
	links, _ := field(person.Document, "link").(bson.A)
	links = change(slices.Clone(links))
	return s.replace(ctx, person, Set("link", links), adminHistory)
}

// adminHistory is the history of a version that a request to /admin made.
func adminHistory(r Resource, _ string) bson.D {
	return bson.D{
		{Key: "id", Value: r.ID},
		{Key: "resource", Value: r.Document[1:]},
		{Key: "request", Value: bson.D{
			{Key: "id", Value: r.RequestID},
			{Key: "method", Value: "POST"},
			{Key: "url", Value: "4_0_0/" + r.Type + "/" + r.UUID},
		}},
	}
}

// WriteHistory writes the history of a version that a request to /admin made, and that has none.
func (s *Server) WriteHistory(ctx context.Context, r Resource) error {
	return s.history(ctx, r, adminHistory(r, ""))
}
