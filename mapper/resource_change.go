package mapper

import (
	"bytes"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// KindResourceChange are the compact events of created, changed and deleted resources. The
// FHIR server has them as a proposal, which no release sends.
const KindResourceChange Kind = "resource_change"

func resourceChangeKind() Definition {
	return Definition{
		Name:           KindResourceChange,
		Summary:        "Compact events of changes, a proposal that is not released.",
		Topic:          "fhir.resource.change",
		OptIn:          true,
		EnableVariable: "ENABLE_SSE_KAFKA_EVENTS", TopicVariable: "KAFKA_SSE_RESOURCE_CHANGE_TOPIC", ResourcesVariable: "SSE_ENABLED_RESOURCES",
		Resources: []string{
			"Patient", "Observation", "Condition", "Procedure", "MedicationRequest", "DiagnosticReport", "Encounter",
			"AllergyIntolerance", "Immunization", "CarePlan", "CareTeam", "Goal", "DocumentReference",
		},
		Operations: []string{"insert", "update", "delete"},
		Profiles:   []Profile{ProfileSeed}, // No standard has a form of them.
		wrote:      func(_ Record, body recordBody) bool { return body.EventID != "" },
		sources:    resourceChangeSources,
		events:     (*Mapper).appendResourceChange,
	}
}

func resourceChangeSources(cfg Config) []source {
	all := cfg.chosenSources(cfg.ResourceChange)
	for i := range all {
		s := &all[i]
		s.ofDeleted = cfg.ResourceChange.Deletes
		s.part, s.fields = "resourceChange", resourceChangeFields
		if s.resource == exportStatus {
			// It has no patient, and a projected change has no value of a document twice.
			s.part, s.fields = "export", exportFieldsOf
		}
	}
	return all
}

func resourceChangeFields(document string) bson.D {
	return bson.D{
		{Key: "patient", Value: document + ".patient.reference"},
		{Key: "subject", Value: document + ".subject.reference"},
		{Key: "source", Value: metaField(document, "source")},
	}
}

// resourceFields are the fields that compact events have of a resource.
type resourceFields struct{ patient, subject, source value }

func (c *Change) resourceFields() (f resourceFields) {
	name := "resourceChange"
	if c.route.resource == exportStatus {
		name = "export"
	}
	for key, v := range c.part(name).fields() {
		switch string(key) {
		case "patient":
			f.patient = v
		case "subject":
			f.subject = v
		case "source":
			f.source = v
		}
	}
	return f
}

// patientReference is the reference to the resource's patient, nil for none; it is false if
// there is one that is no text. The proposal does not look into lists.
func (f resourceFields) patientReference(resource string, id []byte) (reference []byte, ok bool) {
	patient, ok := single(f.patient)
	if !ok || len(patient) > 0 { // whatever it refers to
		return patient, ok
	}
	subject, ok := single(f.subject)
	switch {
	case !ok:
		return nil, false
	case bytes.HasPrefix(subject, []byte("Patient/")):
		return subject, true
	case resource == "Patient":
		return append([]byte("Patient/"), id...), true
	}
	return nil, true
}

// single is the text of a field that is no list; it is false if the field is something else.
func single(v value) (text []byte, ok bool) {
	if _, list := v.array(); list || v.absent() {
		return nil, true
	}
	return v.text()
}

// owner is the part of meta.source after its first #, or all of it; nil for none.
func owner(source []byte) []byte {
	if len(source) == 0 {
		return nil
	}
	if _, after, found := bytes.Cut(source, []byte("#")); found {
		return after // which may be empty, and is no nil then
	}
	return source
}

// resourceOperation is the event's word for an operation, "" if it makes no event.
func (m *Mapper) resourceOperation(operation string) string {
	switch operation {
	case "insert":
		return "create"
	case "replace", "update":
		return "update"
	case "delete":
		if m.cfg.ResourceChange.Deletes {
			return "delete"
		}
	}
	return ""
}

// appendResourceChange appends the compact event. Its member eventId has the proposal's form,
// which two resources of one id may share. So the event's own id is a header.
func (m *Mapper) appendResourceChange(c *Change, _ Facts, to destination, o *Output) {
	operation := m.resourceOperation(c.Name.Operation)
	if operation == "" {
		return
	}
	if reason := c.documentFailure(); reason != "" {
		o.fail(KindResourceChange, c, reason)
		return
	}
	resource := c.route.resource // It needs no escaping.
	id, _ := c.doc.id.text()
	fields := c.resourceFields()
	patient, ok := fields.patientReference(resource, id)
	if !ok {
		o.fail(KindResourceChange, c, "the reference to the patient is not a string")
		return
	}
	source, ok := fields.source.text()
	if !ok && !fields.source.absent() {
		o.fail(KindResourceChange, c, "meta.source is not a string")
		return
	}
	versionField := c.versionOf().versionID
	if versionField.absent() {
		versionField = c.doc.versionID // of an update that sets none
	}
	version, ok := versionField.text()
	if !ok && !versionField.absent() {
		o.fail(KindResourceChange, c, "meta.versionId is not a string")
		return
	}
	if len(version) == 0 {
		version = []byte("1")
	}

	o.grow()
	start := len(o.arena)
	kind := string(KindResourceChange)
	if operation == "delete" {
		kind += "/delete" // A delete has no version of its own: it shares the last one's.
	}
	o.arena = c.appendIdentity(o.arena, o, kind)
	eventID := o.since(start)
	start = len(o.arena)
	o.arena = append(append(append(o.arena, resource...), '/'), id...)
	key := o.since(start)

	start = len(o.arena)
	at := c.when()
	b := append(o.arena, `{"eventId":`...)
	b = appendString(b, strconv.AppendInt(append(bytes.Clone(id), '-'), at, 10))
	b = append(b, `,"timestamp":"`...)
	b = appendInstant(b, at)
	b = append(b, `","resourceType":"`...)
	b = append(b, resource...)
	b = append(b, `","resourceId":`...)
	b = appendString(b, id)
	b = append(b, `,"operation":"`...)
	b = append(b, operation...)
	b = append(b, `","versionId":`...)
	b = appendString(b, version)
	b = append(b, `,"patientReference":`...)
	b = appendOrNull(b, patient)
	b = append(b, `,"sourceOwner":`...)
	b = appendOrNull(b, owner(source))
	o.arena = append(b, '}')

	o.Events = append(o.Events, Event{
		Kind: KindResourceChange, Topic: to.topic, ID: string(eventID), Key: key, Value: o.since(start), Change: c.Name,
		Headers: o.header(Header{"version", c.route.version}, Header{headerEventID, eventID}),
	})
}

// appendOrNull appends a JSON string, or null if s is nil.
func appendOrNull(dst, s []byte) []byte {
	if s == nil {
		return append(dst, "null"...)
	}
	return appendString(dst, s)
}
