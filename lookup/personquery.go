package lookup

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/majority"
)

const (
	// PersonCollection is where the persons of an event's facts are.
	PersonCollection = "Person_4_0_0"

	personPrefix = "Person/"
	orgPrefix    = "Organization/"

	// The system of the security tag with a resource's owner, and the owner of master persons.
	ownerSystem = "https://www.icanbwell.com/owner"
	bwellOwner  = "bwell"
)

// withoutPersons is the setting that needs no person ids.
const withoutPersons = "set events.accessed_everything.enabled: false"

// mongoPersons reads Persons from MongoDB.
type mongoPersons struct{ coll *mongo.Collection }

func (m *mongoPersons) after(ctx context.Context, at bson.Timestamp) (context.Context, func(), error) {
	return majority.After(ctx, m.coll.Database().Client(), at)
}

// own finds by the indexes on _uuid and _sourceId. _sourceId has the value of id, and the
// FHIR server makes no index on id.
func (m *mongoPersons) own(ctx context.Context, uuids, ids []string) (persons []ownPerson, queries int, err error) {
	take := func(doc bson.Raw) {
		if p, ok := readOwnPerson(doc); ok {
			persons = append(persons, p)
		}
	}
	for _, by := range []struct {
		field  string
		values []string
	}{{field: "_uuid", values: uuids}, {field: "_sourceId", values: ids}} {
		for chunk := range slices.Chunk(by.values, maxIn) {
			queries++
			q := m.query("read persons", by.field, chunk, "_uuid", "_sourceId", "managingOrganization.reference")
			if err := q.each(ctx, take); err != nil {
				return nil, queries, err
			}
		}
	}
	return persons, queries, nil
}

// masters queries by link alone and checks the owner here: few Persons link to a
// given one, while most have the tag of owner bwell, so a query with both might
// walk the wrong index.
func (m *mongoPersons) masters(ctx context.Context, uuids []string) (found map[string]string, queries int, err error) {
	found = make(map[string]string, len(uuids))
	for chunk := range slices.Chunk(uuids, maxIn) {
		targets := make([]string, len(chunk))
		asked := make(map[string]bool, len(chunk))
		for i, u := range chunk {
			targets[i], asked[u] = personPrefix+u, true
		}
		queries++
		q := m.query("read master persons", "link.target._uuid", targets, "_uuid", "link.target._uuid", "meta.security.system", "meta.security.code")
		err := q.each(ctx, func(doc bson.Raw) {
			master, links, ok := readMaster(doc)
			if !ok {
				return
			}
			for _, client := range links {
				if before := found[client]; asked[client] && (before == "" || master < before) {
					found[client] = master
				}
			}
		})
		if err != nil {
			return nil, queries, err
		}
	}
	return found, queries, nil
}

func (m *mongoPersons) query(operation, field string, values []string, fields ...string) query {
	return query{
		operation: operation,
		coll:      m.coll,
		filter:    bson.D{{Key: field, Value: bson.D{{Key: "$in", Value: values}}}},
		fields:    fields,
		without:   withoutPersons,
	}
}

// readOwnPerson is false for a document without a uuid. It leaves a field empty that has
// another type than the FHIR server writes.
func readOwnPerson(doc bson.Raw) (ownPerson, bool) {
	uuid, ok := doc.Lookup("_uuid").StringValueOK()
	if !ok || uuid == "" {
		return ownPerson{}, false
	}
	id, _ := doc.Lookup("_sourceId").StringValueOK()
	reference, _ := doc.Lookup("managingOrganization", "reference").StringValueOK()
	return ownPerson{uuid: uuid, id: id, organization: organizationID(reference)}, true
}

// organizationID takes the id out of Organization/<id> or Organization/<id>|<owner>, the
// forms that the FHIR server stores; "" for other forms.
func organizationID(reference string) string {
	id, ok := strings.CutPrefix(reference, orgPrefix)
	if !ok {
		return ""
	}
	id, _, _ = strings.Cut(id, "|")
	if strings.Contains(id, "/") {
		return ""
	}
	return id
}

// readMaster returns a master person's uuid and the uuids of the Persons that it
// links to; false if the document is not of owner bwell.
func readMaster(doc bson.Raw) (uuid string, links []string, ok bool) {
	uuid, ok = doc.Lookup("_uuid").StringValueOK()
	if !ok || uuid == "" || !ownedByBwell(doc) {
		return "", nil, false
	}
	for _, link := range documents(doc.Lookup("link")) {
		target, _ := link.Lookup("target", "_uuid").StringValueOK()
		if client, isPerson := strings.CutPrefix(target, personPrefix); isPerson {
			links = append(links, client)
		}
	}
	return uuid, links, true
}

func ownedByBwell(doc bson.Raw) bool {
	for _, tag := range documents(doc.Lookup("meta", "security")) {
		system, _ := tag.Lookup("system").StringValueOK()
		code, _ := tag.Lookup("code").StringValueOK()
		if system == ownerSystem && code == bwellOwner {
			return true
		}
	}
	return false
}

// documents returns the documents in an array; none if the value is not an array.
func documents(array bson.RawValue) []bson.Raw {
	arr, ok := array.ArrayOK()
	if !ok {
		return nil
	}
	values, err := arr.Values()
	if err != nil {
		return nil
	}
	docs := make([]bson.Raw, 0, len(values))
	for _, v := range values {
		if d, ok := v.DocumentOK(); ok {
			docs = append(docs, d)
		}
	}
	return docs
}

// isUUID tells whether s has the form of a uuid: 8-4-4-4-12 hex digits.
func isUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }
