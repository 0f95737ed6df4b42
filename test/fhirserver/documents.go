package fhirserver

import (
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	system       = "https://www.icanbwell.com/"
	serverSource = system + "fhir-server"
)

// UUID is the _uuid that the server gives a resource: the id if it is one, else
// made of id and owner.
func UUID(id, owner string) string {
	if uuid.Validate(id) == nil {
		return id
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(id+"|"+owner)).String()
}

// ownFields is how many fields of the server's own version puts before a resource's
// content.
const ownFields = 8

// version makes a version of a resource and its main document.
func (s *Server) version(resourceType, id, owner string, content bson.D, number int) Resource {
	r := Resource{
		Type: resourceType, ID: id, UUID: UUID(id, owner), VersionID: strconv.Itoa(number),
		Namespace:   s.opts.Databases.Main + "." + collectionOf(resourceType),
		LastUpdated: s.now(), RequestID: uuid.NewString(),
	}
	r.Document = append(bson.D{
		{Key: "_id", Value: bson.NewObjectID()},
		{Key: "_uuid", Value: r.UUID},
		{Key: "_access", Value: bson.D{{Key: owner, Value: 1}}},
		{Key: "_sourceAssigningAuthority", Value: owner},
		{Key: "_sourceId", Value: id},
		{Key: "id", Value: id},
		{Key: "meta", Value: meta(r, owner)},
		{Key: "resourceType", Value: resourceType},
	}, content...)
	return r
}

// next makes the version after r.
func (s *Server) next(r Resource, change func(bson.D) bson.D) Resource {
	document := slices.Clone(r.Document)
	owner, _ := field(document, "_sourceAssigningAuthority").(string)
	number, _ := strconv.Atoi(r.VersionID)
	content := document[ownFields:]
	if change != nil {
		content = change(content)
	}
	next := s.version(r.Type, r.ID, owner, content, number+1)
	next.Document[0] = r.Document[0]
	return next
}

func meta(r Resource, owner string) bson.D {
	source := "http://" + owner + ".test/src"
	if r.Type == exportStatus {
		source = serverSource
	}
	var security bson.A
	for _, tag := range []string{"owner", "access", "sourceAssigningAuthority"} {
		security = append(security, bson.D{{Key: "system", Value: system + tag}, {Key: "code", Value: owner}})
	}
	m := bson.D{
		{Key: "versionId", Value: r.VersionID},
		{Key: "lastUpdated", Value: r.LastUpdated},
	}
	if r.Type != "AuditEvent" { // the server gives its own none
		m = append(m, bson.E{Key: "source", Value: source})
	}
	return append(m, bson.E{Key: "security", Value: security})
}

// historyDocument is the history of a version, by the request that made it.
func historyDocument(r Resource, method string) bson.D {
	d := bson.D{
		{Key: "id", Value: r.UUID},
		{Key: "resource", Value: r.Document[1:]},
		{Key: "request", Value: bson.D{
			{Key: "id", Value: r.RequestID},
			{Key: "method", Value: method},
			{Key: "url", Value: "/4_0_0/" + r.Type + "/" + r.ID},
		}},
	}
	if r.VersionID != "1" && method != "DELETE" {
		d = append(d, bson.E{Key: "response", Value: bson.D{{Key: "status", Value: "200"}}})
	}
	return d
}

// reference is a reference as the server stores it.
func reference(resourceType, id, owner string) bson.D {
	return bson.D{
		{Key: "reference", Value: resourceType + "/" + id},
		{Key: "_sourceAssigningAuthority", Value: owner},
		{Key: "_uuid", Value: resourceType + "/" + UUID(id, owner)},
		{Key: "_sourceId", Value: resourceType + "/" + id},
	}
}

// Set returns a change for Replace that sets a top-level field.
func Set(key string, value any) func(bson.D) bson.D {
	return func(content bson.D) bson.D {
		for i := range content {
			if content[i].Key == key {
				content[i].Value = value
				return content
			}
		}
		return append(content, bson.E{Key: key, Value: value})
	}
}

func field(document bson.D, key string) any {
	for _, e := range document {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

// withLastUpdated is a copy of a resource with another meta.lastUpdated.
func withLastUpdated(document bson.D, at time.Time) bson.D {
	meta, _ := field(document, "meta").(bson.D)
	return Set("meta", Set("lastUpdated", at)(slices.Clone(meta)))(slices.Clone(document))
}
