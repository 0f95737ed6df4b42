package mapper

import "go.mongodb.org/mongo-driver/v2/bson"

// Feed is a namespace whose changes a Mapper reads: which operations, and
// which of their documents.
type Feed struct {
	Namespace  Namespace
	Operations []string
	// Filter is a match expression on the change event that holds for every event
	// the mapper can use; the mapper still decides. Empty means all.
	Filter bson.D
	// Kinds are the kinds that come from here, none for a feed that only keeps
	// facts fresh.
	Kinds []Kind
}

// Feeds lists the namespaces that the enabled kinds come from, in a fixed order.
func (m *Mapper) Feeds() []Feed {
	var feeds []Feed
	for _, r := range m.sorted() {
		f := Feed{Namespace: r.namespace, Operations: []string{"insert", "replace", "update"}}
		if r.change {
			f.Kinds = append(f.Kinds, KindChange)
		}
		if r.export {
			f.Kinds = append(f.Kinds, KindExport)
		}
		if r.person || (r.change && m.cfg.Deletes) {
			f.Operations = append(f.Operations, "delete")
		}
		if r.accessLog || r.auditEvent {
			f.Operations = []string{"insert"}
			f.Kinds = append(f.Kinds, KindAccessedEverything)
			f.Filter = everythingFilter(r, "fullDocument.")
		}
		feeds = append(feeds, f)
	}
	return feeds
}

// everythingFilter leaves out the requests other than $everything, which are
// nearly all. prefix leads to the document.
func everythingFilter(r *route, prefix string) bson.D {
	url := bson.Regex{Pattern: `/\$everything(\?|$)`}
	if r.accessLog {
		return bson.D{
			{Key: prefix + "request.url", Value: url},
			{Key: prefix + "outcomeDesc", Value: "Success"},
		}
	}
	return bson.D{
		{Key: prefix + "action", Value: "R"},
		{Key: prefix + "entity.detail.valueString", Value: url},
	}
}

// Projection is the $project stage that cuts a change event down to what Read
// reads, on the server: no document contents but what goes into events, and no
// updateDescription. One shape serves all feeds; the parts of one source are computed
// for its namespace only.
//
// It also keeps every change under the 16 MB and 16 KB that a server can send, which
// ends a stream that has a larger one: no value of a document is in it twice, of an
// update's own values there are 3 KB at most, and there is no document beside a
// pre-image. So what is left is at most one document, which MongoDB bounds by 16 MB.
func (m *Mapper) Projection() bson.D {
	p := bson.D{
		{Key: "operationType", Value: 1},
		{Key: "clusterTime", Value: 1},
		{Key: "wallTime", Value: 1},
		{Key: "ns", Value: 1},
		{Key: "documentKey", Value: 1},
	}
	p = append(p, identity("fullDocument")...)
	if m.cfg.Deletes {
		p = append(p, bson.E{Key: "fullDocumentBeforeChange", Value: deletedDocument()})
	}
	p = append(p, bson.E{Key: "updated", Value: when(
		bson.D{{Key: "$eq", Value: bson.A{"$operationType", "update"}}},
		bson.D{
			{Key: "versionId", Value: updatedField("versionId")},
			{Key: "lastUpdated", Value: updatedField("lastUpdated")},
			{Key: "status", Value: short("$updateDescription.updatedFields.status")},
		})})
	const document = "$fullDocument"
	if m.cfg.ChangeTopic != "" {
		p = append(p, bson.E{Key: "sourceType", Value: sourceTypeExpression(document)})
	}
	for _, r := range m.sorted() {
		for _, part := range r.parts(document) {
			part.Value = in(r, part.Value.(bson.D))
			p = append(p, part)
		}
	}
	return p
}

// parts are the expressions of what is read of a namespace's documents for one
// source only. document leads to the document: a field path or a variable.
func (r *route) parts(document string) bson.D {
	var p bson.D
	if r.export {
		p = append(p, bson.E{Key: "export", Value: bson.D{
			{Key: "status", Value: document + ".status"},
			{Key: "request", Value: document + ".request"},
			{Key: "transactionTime", Value: document + ".transactionTime"},
			{Key: "source", Value: document + ".meta.source"},
		}})
	}
	if r.accessLog {
		p = append(p, bson.E{Key: "accessLog", Value: bson.D{
			{Key: "requestId", Value: document + ".request.systemGeneratedRequestId"},
			{Key: "url", Value: document + ".request.url"},
			{Key: "method", Value: document + ".request.method"},
			{Key: "outcome", Value: document + ".outcomeDesc"},
			{Key: "scopes", Value: document + ".agent.scopes"},
			{Key: "altId", Value: document + ".agent.altId"},
			{Key: "timestamp", Value: document + ".timestamp"},
		}})
	}
	if r.auditEvent {
		p = append(p, bson.E{Key: "auditEvent", Value: bson.D{
			{Key: "action", Value: document + ".action"},
			{Key: "outcome", Value: document + ".outcome"},
			{Key: "recorded", Value: document + ".recorded"},
			{Key: "who", Value: document + ".agent.who.reference"},
			{Key: "details", Value: document + ".entity.detail"},
		}})
	}
	if r.person {
		p = append(p, bson.E{Key: "person", Value: bson.D{{Key: "links", Value: document + ".link.target._uuid"}}})
	}
	return p
}

// identity is what every event needs of a resource's document.
func identity(document string) bson.D {
	return bson.D{
		{Key: document + ".id", Value: 1},
		{Key: document + "._uuid", Value: 1},
		{Key: document + ".meta.versionId", Value: 1},
		{Key: document + ".meta.lastUpdated", Value: 1},
	}
}

// deletedDocument is what a delete needs of the document as it was. A collection that
// records none has none, which is told apart from one without an id.
func deletedDocument() bson.D {
	const before = "$fullDocumentBeforeChange"
	return when(
		bson.D{{Key: "$and", Value: bson.A{
			bson.D{{Key: "$eq", Value: bson.A{"$operationType", "delete"}}},
			bson.D{{Key: "$eq", Value: bson.A{bson.D{{Key: "$type", Value: before}}, "object"}}},
		}}},
		bson.D{
			{Key: "id", Value: before + ".id"},
			{Key: "_uuid", Value: before + "._uuid"},
			{Key: "meta", Value: bson.D{
				{Key: "versionId", Value: before + ".meta.versionId"},
				{Key: "lastUpdated", Value: before + ".meta.lastUpdated"},
			}},
		})
}

// shortValue is the most that an update's own value may take, in bytes of BSON: FHIR's
// ids and codes are shorter by far.
const shortValue = 1 << 10

// short is a value, or nothing if it is too long to be what it should be. The document
// has it as well, and a change with both could be more than a server can send.
func short(value any) bson.D {
	size := bson.D{{Key: "$bsonSize", Value: bson.D{{Key: "v", Value: "$$value"}}}}
	return bson.D{{Key: "$let", Value: bson.D{
		{Key: "vars", Value: bson.D{{Key: "value", Value: value}}},
		{Key: "in", Value: when(bson.D{{Key: "$lte", Value: bson.A{size, shortValue}}}, "$$value")},
	}}}
}

// updatedField is what an update set a field of meta to, whether it set the field
// or the whole of meta. updatedFields has the path as one key, with its dot.
func updatedField(name string) bson.D {
	return short(bson.D{{Key: "$ifNull", Value: bson.A{
		bson.D{{Key: "$getField", Value: bson.D{
			{Key: "field", Value: "meta." + name},
			{Key: "input", Value: "$updateDescription.updatedFields"},
		}}},
		"$updateDescription.updatedFields.meta." + name,
		"$$REMOVE",
	}}})
}

// sourceTypeExpression is the valueString of the first extension sourceType, as
// the server finds it. The guard matters: $filter fails on what is no array, and
// a failing expression ends the stream.
func sourceTypeExpression(document string) bson.D {
	return when(
		bson.D{{Key: "$isArray", Value: document + ".extension"}},
		bson.D{{Key: "$first", Value: bson.D{{Key: "$map", Value: bson.D{
			{Key: "input", Value: bson.D{{Key: "$filter", Value: bson.D{
				{Key: "input", Value: document + ".extension"},
				{Key: "cond", Value: bson.D{{Key: "$eq", Value: bson.A{"$$this.url", "https://www.icanbwell.com/sourceType"}}}},
			}}}},
			{Key: "in", Value: "$$this.valueString"},
		}}}}},
	)
}

// in computes an expression for the events of one namespace.
func in(r *route, expression bson.D) bson.D {
	return when(bson.D{{Key: "$and", Value: bson.A{
		bson.D{{Key: "$eq", Value: bson.A{"$ns.coll", r.namespace.Collection}}},
		bson.D{{Key: "$eq", Value: bson.A{"$ns.db", r.namespace.Database}}},
	}}}, expression)
}

func when(condition bson.D, expression any) bson.D {
	return bson.D{{Key: "$cond", Value: bson.A{condition, expression, "$$REMOVE"}}}
}
