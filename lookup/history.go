package lookup

import (
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// maxIn bounds the values of one $in, and with them the size of a query and the
// time that it holds the server: 100 kB, 15 ms. More cost the server as much for each value, and
// the daemon memory: 4,000 took 7 MiB more than 1,000.
const maxIn = 2000

// mongoHistory reads from the <collection>_History collections.
type mongoHistory struct{ db *mongo.Database }

// read matches on resource._uuid and not on id: id is the uuid in most history
// documents, but the client's id after writes by /admin. Every history document has
// resource._uuid, even if the rest of the resource is kept in object storage
// (CLOUD_STORAGE_HISTORY_RESOURCES). Both are indexed, as is
// resource.meta.lastUpdated, which keeps a resource of many versions cheap.
//
// The two lists also match pairs that are not in keys; found gets them all.
func (h *mongoHistory) read(ctx context.Context, collection string, links bool, keys []versionKey, found func(versionKey, answer)) (queries int, err error) {
	fields := []string{"resource._uuid", "resource.meta.versionId", "resource.meta.lastUpdated", "request.id"}
	if links {
		fields = append(fields, "request.url", "response.status")
	}
	for chunk := range slices.Chunk(keys, maxIn) {
		uuids, times := make([]string, 0, len(chunk)), make([]bson.DateTime, 0, len(chunk))
		for i, k := range chunk {
			uuids = append(uuids, k.uuid)
			// The versions of one request share their time, and follow each other.
			if i == 0 || k.lastUpdated != chunk[i-1].lastUpdated {
				times = append(times, bson.DateTime(k.lastUpdated))
			}
		}
		queries++
		q := h.query(collection, uuids, bson.E{Key: "resource.meta.lastUpdated", Value: bson.D{{Key: "$in", Value: times}}}, fields)
		err := q.each(ctx, func(doc bson.Raw) {
			if key, a, ok := readHistory(doc); ok {
				found(key, a)
			}
		})
		if err != nil {
			return queries, err
		}
	}
	return queries, nil
}

// before reads all that is of the resources by the index on resource._uuid: it is asked for few.
func (h *mongoHistory) before(ctx context.Context, collection string, keys []versionKey, found func(earlier)) (queries int, err error) {
	fields := []string{
		"resource._uuid", "resource.meta.versionId", "resource.meta.lastUpdated", "request.method",
		"resource.link.target.reference", "resource.link.target._uuid",
	}
	for chunk := range slices.Chunk(keys, maxIn) {
		uuids, numbers := make([]string, 0, len(chunk)), make([]string, 0, len(chunk))
		wanted := make(predecessors, len(chunk))
		for _, k := range chunk {
			uuids, numbers = append(uuids, k.uuid), append(numbers, k.predecessor())
			wanted[versionKey{uuid: k.uuid, versionID: k.predecessor()}] = true
		}
		queries++
		q := h.query(collection, uuids, bson.E{Key: "$or", Value: bson.A{
			bson.D{{Key: "resource.meta.versionId", Value: bson.D{{Key: "$in", Value: numbers}}}},
			bson.D{{Key: "request.method", Value: "DELETE"}},
		}}, fields)
		err := q.each(ctx, func(doc bson.Raw) {
			if e, ok := wanted.read(doc); ok {
				found(e)
			}
		})
		if err != nil {
			return queries, err
		}
	}
	return queries, nil
}

func (h *mongoHistory) query(collection string, uuids []string, and bson.E, fields []string) query {
	return query{
		operation: "read history",
		coll:      h.db.Collection(collection + "_History"),
		filter:    bson.D{{Key: "resource._uuid", Value: bson.D{{Key: "$in", Value: uuids}}}, and},
		fields:    fields,
		without:   "set facts.request_id: false and events.person_link.enabled: false",
	}
}

// readHistory is false for a document without a request id, or with a field of another
// type than the FHIR server writes.
func readHistory(doc bson.Raw) (key versionKey, a answer, ok bool) {
	key, ok = readKey(doc)
	requestID, okRequest := doc.Lookup("request", "id").StringValueOK()
	if !ok || !okRequest || requestID == "" {
		return versionKey{}, answer{}, false
	}
	a.RequestID = requestID
	a.URL, _ = doc.Lookup("request", "url").StringValueOK()
	_, err := doc.LookupErr("response")
	a.Answered = err == nil
	a.id, _ = doc.Lookup("_id").ObjectIDOK()
	return key, a, true
}

func readKey(doc bson.Raw) (versionKey, bool) {
	resource, _ := doc.Lookup("resource").DocumentOK()
	meta, _ := resource.Lookup("meta").DocumentOK()
	uuid, ok1 := resource.Lookup("_uuid").StringValueOK()
	version, ok2 := meta.Lookup("versionId").StringValueOK()
	updated, ok3 := meta.Lookup("lastUpdated").DateTimeOK()
	return versionKey{uuid: uuid, versionID: version, lastUpdated: updated}, ok1 && ok2 && ok3
}

// predecessors are the versions before others, by uuid and number. A query by uuids and numbers
// also matches other pairs of them: of resources with many versions, too many to keep.
type predecessors map[versionKey]bool

// read is false for a document that is neither a predecessor nor of a delete, that does not name
// its version, or that lies in object storage: of that MongoDB has neither request nor links.
// Without links a predecessor has the empty array.
func (p predecessors) read(doc bson.Raw) (e earlier, ok bool) {
	e.key, ok = readKey(doc)
	method, hasRequest := doc.Lookup("request", "method").StringValueOK()
	e.deleted = method == "DELETE"
	if !ok || !hasRequest || !e.deleted && !p[versionKey{uuid: e.key.uuid, versionID: e.key.versionID}] {
		return earlier{}, false
	}
	e.id, _ = doc.Lookup("_id").ObjectIDOK()
	if e.deleted {
		return e, true
	}
	e.links = noLinks()
	if links, ok := doc.Lookup("resource", "link").ArrayOK(); ok {
		e.links = slices.Clone(links)
	}
	return e, true
}

// noLinks is the empty array of BSON.
func noLinks() bson.RawArray { return bson.RawArray{5, 0, 0, 0, 0} }
