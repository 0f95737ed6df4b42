package lookup

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/majority"
)

const patientPrefix = "Patient/"

// historyReference is the field of a history document whose version is in object storage: the FHIR
// server leaves but a few fields of it in MongoDB (CLOUD_STORAGE_HISTORY_RESOURCES).
const historyReference = "_ref"

// withoutLinkedPersons is the setting that needs no links of persons.
const withoutLinkedPersons = "set events.person_data_change.enabled: false"

// LinkedPersons finds the Persons that link to patients.
type LinkedPersons struct {
	persons, history *mongo.Collection
	tolerance        time.Duration
}

// NewLinkedPersons returns a LinkedPersons that reads Person_4_0_0 of the main database, and its
// history. tolerance is the longest difference between the clocks of MongoDB and the FHIR server.
func NewLinkedPersons(db, history *mongo.Database, tolerance time.Duration) *LinkedPersons {
	return &LinkedPersons{persons: db.Collection(PersonCollection), history: history.Collection(PersonCollection + "_History"), tolerance: tolerance}
}

// LinkedPerson is a Person that links to patients.
type LinkedPerson struct {
	UUID string
	// Patients are the uuids of all patients that it links to, in the order of the links.
	Patients []string
	// Lasting says that the links were the same for long before and after they were asked for.
	Lasting bool

	// first says that no version is older.
	first   bool
	written bson.DateTime
	// elsewhere says that the links are in object storage, with the rest of the version.
	elsewhere bool
}

// Find hands over the Persons that link to any of the patients, of which one query asks for all. A
// Person that was written after the end, in seconds, has the links of its newest version before: so
// the answer does not depend on when it is asked for. Without such a version in the history, or
// with its links in object storage, it has those of today, or is not handed over if it did not
// exist yet. A link that has been removed since is not found. The answer includes what was written
// up to after.
func (l *LinkedPersons) Find(ctx context.Context, patients []string, end uint32, after bson.Timestamp, each func(LinkedPerson)) error {
	const millis = 1000
	before := bson.DateTime(int64(end) * millis)
	var later []LinkedPerson
	if err := l.current(ctx, patients, after, func(p LinkedPerson) {
		if p.written < before {
			p.Lasting = p.written < before-bson.DateTime(l.tolerance.Milliseconds())
			each(p)
		} else {
			later = append(later, p)
		}
	}); err != nil {
		return err
	}
	for chunk := range slices.Chunk(later, maxIn) {
		versions, err := l.versions(ctx, chunk, before)
		if err != nil {
			return err
		}
		for _, p := range chunk {
			switch v, known := versions[p.UUID]; {
			case known && !v.elsewhere:
				p = v
			case !known && p.first:
				continue
			}
			each(p)
		}
	}
	return nil
}

func (l *LinkedPersons) current(ctx context.Context, patients []string, after bson.Timestamp, take func(LinkedPerson)) error {
	causal, done, err := majority.After(ctx, l.persons.Database().Client(), after)
	if err != nil {
		return err
	}
	defer done()
	targets := make([]string, len(patients))
	for i, p := range patients {
		targets[i] = patientPrefix + p
	}
	q := query{
		operation: "read persons by their links", coll: l.persons, without: withoutLinkedPersons,
		filter: bson.D{{Key: "link.target._uuid", Value: bson.D{{Key: "$in", Value: targets}}}},
		fields: []string{"_uuid", "link.target._uuid", "meta.lastUpdated", "meta.versionId"},
	}
	return q.each(causal, func(doc bson.Raw) {
		if p := readLinkedPerson(doc); p.UUID != "" {
			take(p)
		}
	})
}

// versions are the newest versions of persons before a time, as far as there are any.
func (l *LinkedPersons) versions(ctx context.Context, persons []LinkedPerson, before bson.DateTime) (map[string]LinkedPerson, error) {
	uuids := make([]string, len(persons))
	for i, p := range persons {
		uuids[i] = p.UUID
	}
	newest := make(map[string]LinkedPerson, len(persons))
	q := query{
		operation: "read history", coll: l.history, without: withoutLinkedPersons,
		filter: bson.D{
			{Key: "resource._uuid", Value: bson.D{{Key: "$in", Value: uuids}}},
			{Key: "resource.meta.lastUpdated", Value: bson.D{{Key: "$lt", Value: before}}},
		},
		fields: []string{"resource._uuid", "resource.link.target._uuid", "resource.meta.lastUpdated", "resource.meta.versionId", historyReference},
	}
	return newest, q.each(ctx, func(doc bson.Raw) {
		resource, _ := doc.Lookup("resource").DocumentOK()
		v := readLinkedPerson(resource)
		v.elsewhere = !doc.Lookup(historyReference).IsZero()
		if known, ok := newest[v.UUID]; v.UUID != "" && (!ok || known.written < v.written) {
			newest[v.UUID] = v
		}
	})
}

func readLinkedPerson(doc bson.Raw) (p LinkedPerson) {
	if len(doc) == 0 {
		return p
	}
	p.UUID, _ = doc.Lookup("_uuid").StringValueOK()
	version, _ := doc.Lookup("meta", "versionId").StringValueOK()
	p.first = version == "1"
	written, _ := doc.Lookup("meta", "lastUpdated").DateTimeOK()
	p.written = bson.DateTime(written)
	for _, link := range documents(doc.Lookup("link")) {
		target, _ := link.Lookup("target", "_uuid").StringValueOK()
		if uuid, ok := strings.CutPrefix(target, patientPrefix); ok {
			uuid, _, _ = strings.Cut(uuid, "/")
			p.Patients = append(p.Patients, uuid)
		}
	}
	return p
}
