package lookup

import (
	"bytes"
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// maxIn bounds the values of one $in, and with them the size of a query and the
// time that it holds the server.
const maxIn = 1000

// mongoHistory reads request ids from the <collection>_History collections.
type mongoHistory struct{ db *mongo.Database }

// read matches on resource._uuid and not on id: id is the uuid in most history
// documents, but the client's id after writes by /admin. Every history document has
// resource._uuid, even if the rest of the resource is kept in object storage
// (CLOUD_STORAGE_HISTORY_RESOURCES). Both are indexed, as is
// resource.meta.lastUpdated, which keeps a resource of many versions cheap.
//
// The two lists also match pairs that are not in keys; found gets them all.
func (h *mongoHistory) read(ctx context.Context, collection string, keys []versionKey, found func(versionKey, string)) (queries int, err error) {
	coll := h.db.Collection(collection + "_History")
	for chunk := range slices.Chunk(keys, maxIn) {
		uuids, times := make(bson.A, 0, len(chunk)), make(bson.A, 0, len(chunk))
		for _, k := range chunk {
			uuids = append(uuids, k.uuid)
			times = append(times, bson.DateTime(k.lastUpdated))
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
		answers := make(answers, len(chunk))
		if err := q.each(ctx, answers.take); err != nil {
			return queries, err
		}
		for key, a := range answers {
			found(key, a.requestID)
		}
	}
	return queries, nil
}

// answers holds the request ids of one query. If a version has two history
// documents, the one with the smaller _id counts: it is the older one, so an
// earlier look at the same version found the same.
type answers map[versionKey]answer

type answer struct {
	requestID string
	id        bson.ObjectID
}

func (a answers) take(doc bson.Raw) {
	key, requestID, ok := readHistory(doc)
	if !ok {
		return
	}
	id, _ := doc.Lookup("_id").ObjectIDOK()
	if before, twice := a[key]; twice && bytes.Compare(before.id[:], id[:]) <= 0 {
		return
	}
	a[key] = answer{requestID: requestID, id: id}
}

// readHistory is false for a document without a request id, or with a field of another
// type than the FHIR server writes.
func readHistory(doc bson.Raw) (key versionKey, requestID string, ok bool) {
	uuid, ok1 := doc.Lookup("resource", "_uuid").StringValueOK()
	version, ok2 := doc.Lookup("resource", "meta", "versionId").StringValueOK()
	updated, ok3 := doc.Lookup("resource", "meta", "lastUpdated").DateTimeOK()
	requestID, ok4 := doc.Lookup("request", "id").StringValueOK()
	if !ok1 || !ok2 || !ok3 || !ok4 || requestID == "" {
		return versionKey{}, "", false
	}
	return versionKey{uuid: uuid, versionID: version, lastUpdated: updated}, requestID, true
}
