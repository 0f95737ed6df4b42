package mapper

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Feed is a namespace whose changes a Mapper reads, with a filter.
type Feed struct {
	Namespace Namespace
	// Resource is the resource type of the documents, "" for access logs and AuditEvents.
	Resource string
	// Filter is a match expression on the change event that holds for every event
	// the mapper can use; the mapper still decides. Empty means all.
	Filter bson.D
	// Kinds are the kinds that come from the namespace, none for a feed that only keeps
	// facts fresh.
	Kinds []Kind
}

// Feeds lists the namespaces that the enabled kinds come from, in a fixed order.
func (m *Mapper) Feeds() []Feed {
	var feeds []Feed
	for _, r := range m.sorted() {
		f := Feed{Namespace: r.namespace, Resource: r.resource, Filter: r.filter("fullDocument."), Kinds: r.names()}
		if len(f.Filter) > 0 {
			f.Filter = append(bson.D{{Key: "operationType", Value: "insert"}}, f.Filter...)
		}
		feeds = append(feeds, f)
	}
	return feeds
}

// Projection is the $project stage that cuts a change event down to the fields that Read
// reads, on the server. Of document contents it keeps only the parts that go into events,
// and it drops updateDescription. One shape serves all feeds; the parts of one source are
// computed for its namespace only.
//
// It also keeps every change under the 16 MB and 16 KB that a server can send; a larger
// change ends the stream. A projected change has no value of a document twice, at most 3 KB
// of an update's own values, and no document beside a pre-image. So it is at most one
// document, which MongoDB bounds by 16 MB.
func (m *Mapper) Projection() bson.D {
	if m.Windowed() {
		return m.touchedProjection()
	}
	p := bson.D{
		{Key: "operationType", Value: 1},
		{Key: "clusterTime", Value: 1},
		{Key: "wallTime", Value: 1},
		{Key: "ns", Value: 1},
		{Key: "to", Value: 1}, // of a rename only
		{Key: "documentKey", Value: 1},
	}
	p = append(p, identity("fullDocument")...)
	if m.cfg.Deletes || (m.cfg.Topics[KindResourceChange] != "" && m.cfg.ResourceChange.Deletes) {
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
	for _, kind := range m.kinds {
		if kind.everywhere != nil {
			p = append(p, kind.everywhere(document)...)
		}
	}
	for _, part := range m.parts() {
		fields := part.fields(document)
		if part.ofDeleted {
			fields = bson.D{{Key: "$cond", Value: bson.A{
				bson.D{{Key: "$eq", Value: bson.A{"$operationType", "delete"}}}, part.fields("$fullDocumentBeforeChange"), fields,
			}}}
		}
		p = append(p, bson.E{Key: part.part, Value: in(part.namespaces, fields)})
	}
	return p
}

// projectedPart is a part of the projection, with the namespaces that have it.
type projectedPart struct {
	source
	namespaces []Namespace
}

// parts are the parts of the projection, each once.
func (m *Mapper) parts() []projectedPart {
	var all []projectedPart
	for _, r := range m.sorted() {
		for _, s := range r.parts() {
			i := slices.IndexFunc(all, func(p projectedPart) bool { return p.part == s.part })
			if i < 0 {
				i = len(all)
				all = append(all, projectedPart{source: s})
			}
			all[i].ofDeleted = all[i].ofDeleted || s.ofDeleted
			all[i].namespaces = append(all[i].namespaces, r.namespace)
		}
	}
	return all
}

// parts are the sources with a part of the projection of their own. Two kinds may share one.
func (r *route) parts() []source {
	var all []source
	for _, s := range r.sources {
		if s.part == "" {
			continue
		}
		if i := slices.IndexFunc(all, func(other source) bool { return other.part == s.part }); i >= 0 {
			all[i].ofDeleted = all[i].ofDeleted || s.ofDeleted
			continue
		}
		all = append(all, s)
	}
	return all
}

// identity has the fields of a resource's document that every event needs.
func identity(document string) bson.D {
	return bson.D{
		{Key: document + ".id", Value: 1},
		{Key: document + "._uuid", Value: 1},
		{Key: document + ".meta.versionId", Value: 1},
		{Key: document + ".meta.lastUpdated", Value: 1},
	}
}

// deletedDocument has the fields of a pre-image that a delete event needs. It is absent if the
// collection records no pre-images, which differs from a pre-image without an id.
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
				{Key: "versionId", Value: metaField(before, "versionId")},
				{Key: "lastUpdated", Value: metaField(before, "lastUpdated")},
			}},
		})
}

// metaField is a field of a document's meta, and nothing if meta is an array: a path into an
// array gives the list of its elements' fields, while the document itself has no such field.
func metaField(document, name string) bson.D {
	return when(bson.D{{Key: "$ne", Value: bson.A{bson.D{{Key: "$type", Value: document + ".meta"}}, "array"}}}, document+".meta."+name)
}

// shortValue is the largest size of an update's own value, in bytes of BSON: FHIR's ids and
// codes are shorter by far.
const shortValue = 1 << 10

// short is a value, or nothing if it is longer than shortValue. The document has the value as
// well, and a change with both could be larger than a server can send.
func short(value any) bson.D {
	size := bson.D{{Key: "$bsonSize", Value: bson.D{{Key: "v", Value: "$$value"}}}}
	return bson.D{{Key: "$let", Value: bson.D{
		{Key: "vars", Value: bson.D{{Key: "value", Value: value}}},
		{Key: "in", Value: when(bson.D{{Key: "$lte", Value: bson.A{size, shortValue}}}, "$$value")},
	}}}
}

// updatedField is an update's new value of a field of meta, whether the update set the field
// or the whole of meta. updatedFields has the path as one key, with its dot.
func updatedField(name string) bson.D {
	return short(bson.D{{Key: "$ifNull", Value: bson.A{
		bson.D{{Key: "$getField", Value: bson.D{
			{Key: "field", Value: "meta." + name},
			{Key: "input", Value: "$updateDescription.updatedFields"},
		}}},
		metaField("$updateDescription.updatedFields", name),
		"$$REMOVE",
	}}})
}

// sourceTypeExpression is the valueString of the first extension sourceType, as
// the server finds it. The guard matters: $filter fails on a value that is not an array,
// and a failing expression ends the stream.
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

// in computes an expression for the events of namespaces. Those of one part have one database.
func in(namespaces []Namespace, expression bson.D) bson.D {
	collection := bson.D{{Key: "$eq", Value: bson.A{"$ns.coll", namespaces[0].Collection}}}
	if len(namespaces) > 1 {
		var names bson.A
		for _, n := range namespaces {
			names = append(names, n.Collection)
		}
		collection = bson.D{{Key: "$in", Value: bson.A{"$ns.coll", names}}}
	}
	return when(bson.D{{Key: "$and", Value: bson.A{
		collection,
		bson.D{{Key: "$eq", Value: bson.A{"$ns.db", namespaces[0].Database}}},
	}}}, expression)
}

func when(condition bson.D, expression any) bson.D {
	return bson.D{{Key: "$cond", Value: bson.A{condition, expression, "$$REMOVE"}}}
}
