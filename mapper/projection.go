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
			f.Filter = everythingFilter(r)
		}
		feeds = append(feeds, f)
	}
	return feeds
}

// everythingFilter leaves out the requests other than $everything, which are
// nearly all.
func everythingFilter(r *route) bson.D {
	url := bson.Regex{Pattern: `/\$everything(\?|$)`}
	if r.accessLog {
		return bson.D{
			{Key: "fullDocument.request.url", Value: url},
			{Key: "fullDocument.outcomeDesc", Value: "Success"},
		}
	}
	return bson.D{
		{Key: "fullDocument.action", Value: "R"},
		{Key: "fullDocument.entity.detail.valueString", Value: url},
	}
}

// Projection is the $project stage that cuts a change event down to what Read
// reads, on the server: no document contents but what goes into events, and no
// updateDescription, which can break the 16 MB limit of an event. One shape
// serves all feeds; the parts of one source are computed for its namespace only.
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
		p = append(p, identity("fullDocumentBeforeChange")...)
	}
	p = append(p, bson.E{Key: "updated", Value: when(
		bson.D{{Key: "$eq", Value: bson.A{"$operationType", "update"}}},
		bson.D{
			{Key: "versionId", Value: updatedField("versionId")},
			{Key: "lastUpdated", Value: updatedField("lastUpdated")},
			{Key: "status", Value: "$updateDescription.updatedFields.status"},
		})})
	if m.cfg.ChangeTopic != "" {
		p = append(p, bson.E{Key: "sourceType", Value: sourceTypeExpression()})
	}
	for _, r := range m.sorted() {
		if r.export {
			p = append(p, bson.E{Key: "export", Value: in(r, bson.D{
				{Key: "status", Value: "$fullDocument.status"},
				{Key: "request", Value: "$fullDocument.request"},
				{Key: "transactionTime", Value: "$fullDocument.transactionTime"},
				{Key: "source", Value: "$fullDocument.meta.source"},
			})})
		}
		if r.accessLog {
			p = append(p, bson.E{Key: "accessLog", Value: in(r, bson.D{
				{Key: "requestId", Value: "$fullDocument.request.systemGeneratedRequestId"},
				{Key: "url", Value: "$fullDocument.request.url"},
				{Key: "method", Value: "$fullDocument.request.method"},
				{Key: "outcome", Value: "$fullDocument.outcomeDesc"},
				{Key: "scopes", Value: "$fullDocument.agent.scopes"},
				{Key: "altId", Value: "$fullDocument.agent.altId"},
				{Key: "timestamp", Value: "$fullDocument.timestamp"},
			})})
		}
		if r.auditEvent {
			p = append(p, bson.E{Key: "auditEvent", Value: in(r, bson.D{
				{Key: "action", Value: "$fullDocument.action"},
				{Key: "outcome", Value: "$fullDocument.outcome"},
				{Key: "recorded", Value: "$fullDocument.recorded"},
				{Key: "who", Value: "$fullDocument.agent.who.reference"},
				{Key: "details", Value: "$fullDocument.entity.detail"},
			})})
		}
		if r.person {
			p = append(p, bson.E{Key: "person", Value: in(r, bson.D{{Key: "links", Value: "$fullDocument.link.target._uuid"}})})
		}
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

// updatedField is what an update set a field of meta to, whether it set the field
// or the whole of meta. updatedFields has the path as one key, with its dot.
func updatedField(name string) bson.D {
	return bson.D{{Key: "$ifNull", Value: bson.A{
		bson.D{{Key: "$getField", Value: bson.D{
			{Key: "field", Value: "meta." + name},
			{Key: "input", Value: "$updateDescription.updatedFields"},
		}}},
		"$updateDescription.updatedFields.meta." + name,
		"$$REMOVE",
	}}}
}

// sourceTypeExpression is the valueString of the first extension sourceType, as
// the server finds it. The guard matters: $filter fails on what is no array, and
// a failing expression ends the stream.
func sourceTypeExpression() bson.D {
	return when(
		bson.D{{Key: "$isArray", Value: "$fullDocument.extension"}},
		bson.D{{Key: "$first", Value: bson.D{{Key: "$map", Value: bson.D{
			{Key: "input", Value: bson.D{{Key: "$filter", Value: bson.D{
				{Key: "input", Value: "$fullDocument.extension"},
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

func when(condition, expression bson.D) bson.D {
	return bson.D{{Key: "$cond", Value: bson.A{condition, expression, "$$REMOVE"}}}
}
