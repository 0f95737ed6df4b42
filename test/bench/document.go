package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// document is the identity of a benchmark document. It travels in the FHIR id, and
// so in the key of whatever event is made of it:
//
//	b.<run>.<number, 8 digits>.<unix nanoseconds, 19 digits>
type document struct {
	run    string
	number int
	// written is when the document was handed to the driver.
	written time.Time
}

func (d document) id() string {
	return fmt.Sprintf("b.%s.%08d.%019d", d.run, d.number, d.written.UnixNano())
}

// parseID reads an id that is a key, or that stands somewhere in it.
func parseID(text string) (document, bool) {
	_, rest, found := strings.Cut(text, "b.")
	if !found {
		return document{}, false
	}
	parts := strings.Split(rest, ".")
	if len(parts) != 3 || len(parts[1]) != 8 || len(parts[2]) < 19 {
		return document{}, false
	}
	number, err := strconv.Atoi(parts[1])
	if err != nil {
		return document{}, false
	}
	nanos, err := strconv.ParseInt(parts[2][:19], 10, 64)
	if err != nil {
		return document{}, false
	}
	return document{run: parts[0], number: number, written: time.Unix(0, nanos)}, true
}

const (
	icanbwell = "https://www.icanbwell.com/"
	owner     = "acme"
)

// consent is a Consent as the FHIR server stores one, with what a real one
// carries: about 2.4 KB of BSON. No content of it is anybody's.
func (d document) consent() bson.D {
	id := d.id()
	person := fmt.Sprintf("person.%06d", d.number%50_000)
	return bson.D{
		{Key: "_id", Value: bson.NewObjectID()},
		{Key: "resourceType", Value: "Consent"},
		{Key: "id", Value: id},
		{Key: "meta", Value: bson.D{
			{Key: "versionId", Value: "1"},
			{Key: "lastUpdated", Value: d.written.UTC().Truncate(time.Millisecond)},
			{Key: "source", Value: "https://www.acme.test/consents"},
			{Key: "security", Value: bson.A{tag("owner"), tag("access"), tag("vendor"), tag("sourceAssigningAuthority")}},
		}},
		{Key: "identifier", Value: bson.A{
			bson.D{{Key: "id", Value: "sourceId"}, {Key: "system", Value: icanbwell + "sourceId"}, {Key: "value", Value: id}},
			bson.D{{Key: "id", Value: "uuid"}, {Key: "system", Value: icanbwell + "uuid"}, {Key: "value", Value: nameUUID(id)}},
		}},
		{Key: "status", Value: "active"},
		{Key: "scope", Value: coding("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy", "Privacy Consent")},
		{Key: "category", Value: bson.A{coding("http://loinc.org", "59284-0", "Consent Document")}},
		{Key: "patient", Value: reference("Patient", person, "Synthetic Person "+person)},
		{Key: "dateTime", Value: d.written.UTC().Format("2006-01-02T15:04:05.000Z")},
		{Key: "policyRule", Value: coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTIN", "opt-in")},
		{Key: "provision", Value: bson.D{
			{Key: "type", Value: "permit"},
			{Key: "period", Value: bson.D{{Key: "start", Value: "2024-01-01"}, {Key: "end", Value: "2034-01-01"}}},
			{Key: "actor", Value: bson.A{bson.D{
				{Key: "role", Value: coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP", "information recipient")},
				{Key: "reference", Value: reference("Organization", "acme-clinic", "ACME Clinic")},
			}}},
			{Key: "purpose", Value: bson.A{bson.D{{Key: "system", Value: "http://terminology.hl7.org/CodeSystem/v3-ActReason"}, {Key: "code", Value: "TREAT"}}}},
		}},
		{Key: "_access", Value: bson.D{{Key: owner, Value: 1}}},
		{Key: "_uuid", Value: nameUUID(id)},
		{Key: "_sourceId", Value: id},
		{Key: "_sourceAssigningAuthority", Value: owner},
	}
}

func nameUUID(name string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)).String()
}

func tag(name string) bson.D {
	return bson.D{{Key: "id", Value: nameUUID(name)}, {Key: "system", Value: icanbwell + name}, {Key: "code", Value: owner}}
}

func reference(resourceType, id, display string) bson.D {
	local := resourceType + "/" + id
	return bson.D{
		{Key: "reference", Value: local},
		{Key: "display", Value: display},
		{Key: "_uuid", Value: resourceType + "/" + nameUUID(local)},
		{Key: "_sourceId", Value: local},
		{Key: "_sourceAssigningAuthority", Value: owner},
	}
}

func coding(system, code, display string) bson.D {
	return bson.D{{Key: "coding", Value: bson.A{
		bson.D{{Key: "system", Value: system}, {Key: "code", Value: code}, {Key: "display", Value: display}},
	}}}
}
