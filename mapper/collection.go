package mapper

import "go.mongodb.org/mongo-driver/v2/bson"

// Form is how a collection holds the versions of documents.
type Form int

const (
	// Current is a collection of documents as they are now: one version each.
	Current Form = iota
	// History is the collection of all versions of one namespace's documents, each
	// below resource.
	History
)

// HistorySuffix makes the name of a history collection of a main collection's.
const HistorySuffix = "_History"

// Collection says how to read a collection's documents as changes, for paths that
// do not come from the oplog.
type Collection struct {
	// Namespace is the one that the changes are of: for a history, that of the main
	// collection.
	Namespace Namespace
	Kinds     []Kind
	// Projection makes of each document what Read reads: the change that wrote this
	// version, without cluster time and token, which only the oplog knows.
	Projection bson.D
	// Filter matches all documents that an event can be made of; empty means all.
	Filter bson.D
	// Time is the path of the field that tells when a version was written, by the
	// FHIR server's clock.
	Time string
}

// Collections lists the collections whose documents tell of changes of the enabled
// kinds, in a fixed order: the same order as Feeds has. A feed that only keeps
// facts fresh has none, and an access log or AuditEvent has no history.
func (m *Mapper) Collections(form Form) []Collection {
	var all []Collection
	for _, r := range m.sorted() {
		access := r.accessLog || r.auditEvent
		if !r.change && !r.export && (!access || form == History) {
			continue
		}
		c := Collection{Namespace: r.namespace, Projection: m.documents(r, form), Time: "meta.lastUpdated"}
		if r.change {
			c.Kinds = append(c.Kinds, KindChange)
		}
		if r.export {
			c.Kinds = append(c.Kinds, KindExport)
		}
		switch {
		case access:
			c.Kinds = append(c.Kinds, KindAccessedEverything)
			c.Filter = everythingFilter(r, "")
			c.Time = "timestamp"
			if r.auditEvent {
				c.Time = "recorded"
			}
		case form == History:
			c.Time = "resource." + c.Time
			// A delete is written with the last version's number and is no version.
			c.Filter = bson.D{{Key: "request.method", Value: bson.D{{Key: "$ne", Value: "DELETE"}}}}
		}
		all = append(all, c)
	}
	return all
}

// documents is the projection of one namespace's documents. It makes the shape that
// Projection makes of change events, by the same expressions, so that the same
// version gives the same bytes.
func (m *Mapper) documents(r *route, form Form) bson.D {
	document, id := "$$ROOT", any("$id")
	if form == History {
		// Where a resource's history is kept in object storage, what MongoDB has of it
		// lacks the id; _sourceId holds the same.
		document, id = "$resource", bson.D{{Key: "$ifNull", Value: bson.A{"$resource.id", "$resource._sourceId", "$$REMOVE"}}}
	}
	p := bson.D{
		{Key: "_id", Value: 0}, // It would be taken for a resume token.
		{Key: "documentKey._id", Value: "$_id"},
		{Key: "operationType", Value: m.operationOf(r, document)},
		{Key: "ns", Value: bson.D{{Key: "$literal", Value: bson.D{
			{Key: "db", Value: r.namespace.Database}, {Key: "coll", Value: r.namespace.Collection},
		}}}},
		{Key: "fullDocument", Value: bson.D{
			{Key: "id", Value: id},
			{Key: "_uuid", Value: document + "._uuid"},
			{Key: "meta", Value: bson.D{
				{Key: "versionId", Value: document + ".meta.versionId"},
				{Key: "lastUpdated", Value: document + ".meta.lastUpdated"},
			}},
		}},
	}
	if r.change {
		p = append(p, bson.E{Key: "sourceType", Value: sourceTypeExpression(document)})
	}
	return append(p, r.parts(document)...)
}

// operationOf is the operation that wrote a version. The server writes a resource's
// first version with an insert, also when it was deleted before, and every other
// one with a replace; access logs and AuditEvents it only inserts.
func (m *Mapper) operationOf(r *route, document string) any {
	if r.accessLog || r.auditEvent {
		return bson.D{{Key: "$literal", Value: "insert"}}
	}
	return bson.D{{Key: "$cond", Value: bson.A{
		bson.D{{Key: "$eq", Value: bson.A{document + ".meta.versionId", "1"}}}, "insert", "replace",
	}}}
}
