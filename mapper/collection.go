package mapper

import "go.mongodb.org/mongo-driver/v2/bson"

// Form tells current documents from their history.
type Form int

const (
	// Current is a collection of documents as they are now: one version each.
	Current Form = iota
	// History is the collection of all versions of one namespace's documents, each in
	// the field resource.
	History
)

// historySuffix ends the name of a history collection, after the name of its main collection.
const historySuffix = "_History"

// hasHistory tells whether the FHIR server keeps earlier versions of a resource type.
func hasHistory(resource string) bool { return resource != exportStatus }

// Collection says how to read a collection's documents as changes, for paths that do not
// read the oplog.
type Collection struct {
	// Namespace is the namespace of the changes: for a history, the main collection's.
	Namespace Namespace
	// StoredIn is the name of the documents' collection. A history's is in the database of
	// histories.
	StoredIn string
	// Resource is the resource type of the documents, "" for access logs and AuditEvents.
	Resource string
	Kinds    []Kind
	// Projection turns each document into the form that Read reads: the change that wrote
	// this version, without cluster time and token, which only the oplog has.
	Projection bson.D
	// Filter matches all documents that can become events; empty means all.
	Filter bson.D
	// Time is the path of the field with the time of writing, by the FHIR server's clock.
	Time string
}

// Collections lists the collections whose documents can become events of the enabled kinds,
// in the order of Feeds. A feed that only keeps facts fresh has no collection here, and
// ExportStatus, access logs and AuditEvents have no history.
func (m *Mapper) Collections(form Form) []Collection {
	var all []Collection
	for _, r := range m.sorted() {
		if len(r.kinds) == 0 || r.recordsOnly() || (form == History && !r.history()) {
			continue
		}
		c := Collection{Namespace: r.namespace, StoredIn: r.namespace.Collection, Resource: r.resource, Kinds: r.names(), Projection: r.documents(form), Filter: r.filter(""), Time: r.time()}
		if form == History {
			c.StoredIn += historySuffix
			c.Time = "resource." + c.Time
			c.Filter = nil
			if m.Windowed() { // Its deletes count.
				all = append(all, c)
				continue
			}
			// A delete is written with the last version's number and is no version.
			c.Filter = bson.D{{Key: "request.method", Value: bson.D{{Key: "$ne", Value: "DELETE"}}}}
		}
		all = append(all, c)
	}
	return all
}

// documents is the projection of one namespace's documents. It gives them the shape of
// projected change events, by the same expressions, so that the same version gives the
// same bytes.
func (r *route) documents(form Form) bson.D {
	document, id := "$$ROOT", any("$id")
	if form == History {
		// If a resource's history is kept in object storage, its document in MongoDB lacks
		// the id; _sourceId has the same value.
		document, id = "$resource", bson.D{{Key: "$ifNull", Value: bson.A{"$resource.id", "$resource._sourceId", "$$REMOVE"}}}
	}
	p := bson.D{
		{Key: "_id", Value: 0}, // It would be taken for a resume token.
		{Key: "documentKey._id", Value: "$_id"},
		{Key: "operationType", Value: r.operationOf(document)},
		{Key: "ns", Value: bson.D{{Key: "$literal", Value: bson.D{
			{Key: "db", Value: r.namespace.Database}, {Key: "coll", Value: r.namespace.Collection},
		}}}},
		{Key: "fullDocument", Value: bson.D{
			{Key: "id", Value: id},
			{Key: "_uuid", Value: document + "._uuid"},
			{Key: "meta", Value: bson.D{
				{Key: "versionId", Value: metaField(document, "versionId")},
				{Key: "lastUpdated", Value: metaField(document, "lastUpdated")},
			}},
		}},
	}
	if r.kinds[0].Windowed {
		return append(p, bson.E{Key: touchedPart, Value: touchedIn(document, pathOf(r.resource))})
	}
	for _, kind := range r.kinds {
		if kind.everywhere != nil {
			p = append(p, kind.everywhere(document)...)
		}
	}
	for _, s := range r.parts() {
		p = append(p, bson.E{Key: s.part, Value: s.fields(document)})
	}
	return p
}

// operationOf is the operation that wrote a version. The server inserts a resource's first
// version, also after a delete, and replaces for every other version. Access logs and
// AuditEvents are only inserted.
func (r *route) operationOf(document string) any {
	if r.filter("") != nil {
		return bson.D{{Key: "$literal", Value: "insert"}}
	}
	return bson.D{{Key: "$cond", Value: bson.A{
		bson.D{{Key: "$eq", Value: bson.A{document + ".meta.versionId", "1"}}}, "insert", "replace",
	}}}
}
