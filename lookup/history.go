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

// mongoHistory reads request ids from the <collection>_History collections.
type mongoHistory struct{ db *mongo.Database }

// read matches on resource._uuid and not on id: id is the uuid in most history
// documents, but the client's id after writes by /admin. Every history document has
// resource._uuid, even if the rest of the resource is kept in object storage
// (CLOUD_STORAGE_HISTORY_RESOURCES). Both are indexed, as is
// resource.meta.lastUpdated, which keeps a resource of many versions cheap.
//
// The two lists also match pairs that are not in keys; found gets them all.
func (h *mongoHistory) read(ctx context.Context, collection string, keys []versionKey, found func(versionKey, answer)) (queries int, err error) {
	coll := h.db.Collection(collection + "_History")
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
		q := query{
			operation: "read history",
			coll:      coll,
			filter: bson.D{
				{Key: "resource._uuid", Value: bson.D{{Key: "$in", Value: uuids}}},
				{Key: "resource.meta.lastUpdated", Value: bson.D{{Key: "$in", Value: times}}},
			},
			fields:  []string{"resource._uuid", "resource.meta.versionId", "resource.meta.lastUpdated", "request.id"},
			without: "set facts.request_id: false",
		}
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

// readHistory is false for a document without a request id, or with a field of another
// type than the FHIR server writes.
func readHistory(doc bson.Raw) (key versionKey, a answer, ok bool) {
	resource, _ := doc.Lookup("resource").DocumentOK()
	meta, _ := resource.Lookup("meta").DocumentOK()
	uuid, ok1 := resource.Lookup("_uuid").StringValueOK()
	version, ok2 := meta.Lookup("versionId").StringValueOK()
	updated, ok3 := meta.Lookup("lastUpdated").DateTimeOK()
	requestID, ok4 := doc.Lookup("request", "id").StringValueOK()
	if !ok1 || !ok2 || !ok3 || !ok4 || requestID == "" {
		return versionKey{}, answer{}, false
	}
	id, _ := doc.Lookup("_id").ObjectIDOK()
	return versionKey{uuid: uuid, versionID: version, lastUpdated: updated}, answer{requestID: requestID, id: id}, true
}
