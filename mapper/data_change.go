package mapper

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// KindPatientDataChange and KindPersonDataChange tell that data of a patient or person has
// changed: a binary CloudEvent for each patient or person and window of cluster time.
const (
	KindPatientDataChange Kind = "patient_data_change"
	KindPersonDataChange  Kind = "person_data_change"
)

// The CloudEvents types of the two kinds.
const (
	patientDataChangeType = "PatientDataChangeEvent"
	personDataChangeType  = "PersonDataChangeEvent"
)

func patientDataChangeKind() Definition {
	return Definition{
		Name:           KindPatientDataChange,
		Summary:        "A patient's data changed, once a window.",
		Topic:          "fhir.patient_data.change.events",
		OptIn:          true,
		Windowed:       true,
		EnableVariable: "ENABLE_PATIENT_DATA_CHANGE_EVENTS", TopicVariable: "PATIENT_DATA_CHANGE_EVENT_TOPIC",
		Operations: []string{"update"},
		Profiles:   []Profile{ProfileSeed},
		wrote:      func(r Record, _ recordBody) bool { return string(r.Type) == patientDataChangeType },
		sources:    dataChangeSources,
	}
}

func personDataChangeKind() Definition {
	return Definition{
		Name:           KindPersonDataChange,
		Summary:        "A person's data changed, once a window.",
		Topic:          "fhir.person_data.change.events",
		OptIn:          true,
		Windowed:       true,
		EnableVariable: "ENABLE_PERSON_DATA_CHANGE_EVENTS", TopicVariable: "PERSON_DATA_CHANGE_EVENT_TOPIC",
		Operations: []string{"update"},
		Profiles:   []Profile{ProfileSeed},
		wrote:      func(r Record, _ recordBody) bool { return string(r.Type) == personDataChangeType },
		sources: func(cfg Config) []source {
			return append(dataChangeSources(cfg), cfg.touchingSources(personType)...)
		},
	}
}

// patient is a resource type that the events are of; the other one is personType.
const patient = "Patient"

// patientPath are resource types that refer to their patients under one path, with the stored
// companion of the reference at its end.
type patientPath struct {
	path  string
	types []string
}

// ownUUID is the path of the types whose documents are patients or persons themselves.
const ownUUID = "_uuid"

// patientPaths is the FHIR server's table of the patients that a resource is about.
func patientPaths() []patientPath {
	return []patientPath{
		{ownUUID, []string{patient, personType}},
		{"subject._uuid", []string{
			"Account", "AdverseEvent", "Basic", "CarePlan", "CareTeam", "ChargeItem", "ClinicalImpression", "Communication", "CommunicationRequest",
			"Composition", "Condition", "Contract", "DeviceRequest", "DeviceUseStatement", "DiagnosticReport", "DocumentManifest", "DocumentReference",
			"Encounter", "Flag", "Goal", "GuidanceResponse", "ImagingStudy", "Invoice", "List", "MeasureReport", "Media", "MedicationAdministration",
			"MedicationDispense", "MedicationRequest", "MedicationStatement", "Observation", "Procedure", "QuestionnaireResponse", "RequestGroup",
			"RiskAssessment", "ServiceRequest", "Specimen",
		}},
		{"patient._uuid", []string{
			"AllergyIntolerance", "BodyStructure", "Claim", "ClaimResponse", "Consent", "CoverageEligibilityRequest", "CoverageEligibilityResponse",
			"DetectedIssue", "Device", "EpisodeOfCare", "ExplanationOfBenefit", "FamilyMemberHistory", "Immunization", "ImmunizationEvaluation",
			"ImmunizationRecommendation", "MolecularSequence", "NutritionOrder", "RelatedPerson", "SupplyDelivery", "VisionPrescription",
		}},
		{"beneficiary._uuid", []string{"Coverage"}},
		{"candidate._uuid", []string{"EnrollmentRequest"}},
		{"individual._uuid", []string{"ResearchSubject"}},
		{"for._uuid", []string{"Task"}},
		{"requester._uuid", []string{"SupplyRequest"}},
		{"request._uuid", []string{"PaymentNotice"}},
		{"actor._uuid", []string{"AppointmentResponse", "Schedule"}},
		{"participant.actor._uuid", []string{"Appointment"}},
		{"collection.source._uuid", []string{"BiologicallyDerivedProduct"}},
		{"member.entity._uuid", []string{"Group"}},
		{"item.resource._uuid", []string{"Linkage"}},
		{"target._uuid", []string{"Provenance"}},
	}
}

// dataChangeResources are the types of the table but Person, sorted.
func dataChangeResources() []string {
	var all []string
	for _, p := range patientPaths() {
		all = append(all, p.types...)
	}
	slices.Sort(all)
	return slices.DeleteFunc(all, func(t string) bool { return t == personType })
}

func dataChangeSources(cfg Config) []source {
	var all []source
	for _, resource := range dataChangeResources() {
		all = append(all, cfg.touchingSources(resource)...)
	}
	return all
}

// touchingSources are the collections of a resource type, and their histories where these are on
// the same cluster: a change stream tells only the key of a deleted document without a pre-image,
// and the FHIR server's record of the delete has the document.
func (c Config) touchingSources(resource string) []source {
	var all []source
	for _, suffix := range []string{suffixR4, suffixSTU3} {
		all = append(all, c.resourceSource(resource, suffix))
		if c.Histories == "" {
			continue
		}
		all = append(all, source{
			namespace: Namespace{c.Histories, resource + suffix + historySuffix}, resource: resource, recordsOnly: true,
			filter: func(prefix string) bson.D { return bson.D{{Key: prefix + "request.method", Value: "DELETE"}} },
		})
	}
	return all
}

// Touch says that a change concerns a patient or person.
type Touch struct {
	Person bool
	// UUID is the patient's or person's. It points into the change.
	UUID []byte
	// Type is the type of the changed resource.
	Type string
}

// touched is the part of the projection that names the patients or persons of a change: texts that
// begin with Patient/ or, of a Patient or Person, its own _uuid. Comparisons of values of any
// type never fail, and a failing expression ends the stream. It is absent without a document.
const touchedPart = "touched"

// touchedProjection is the projection of a mapper of windows. A projected change has a part of one
// document only, so that MongoDB's 16 MB bound it: a Group has no more members than fit.
func (m *Mapper) touchedProjection() bson.D {
	names := map[string]bson.A{}
	var histories bson.A
	for _, r := range m.sorted() {
		path := pathOf(r.resource)
		names[path] = append(names[path], r.namespace.Collection)
		if r.recordsOnly() {
			histories = append(histories, r.namespace.Collection)
		}
	}
	branches := bson.A{}
	for _, p := range patientPaths() {
		if len(names[p.path]) > 0 {
			branches = append(branches, bson.D{
				{Key: "case", Value: bson.D{{Key: "$in", Value: bson.A{"$ns.coll", names[p.path]}}}},
				{Key: "then", Value: touchedIn("$$document", p.path)},
			})
		}
	}
	document := bson.D{{Key: "$switch", Value: bson.D{
		{Key: "branches", Value: bson.A{
			bson.D{{Key: "case", Value: bson.D{{Key: "$eq", Value: bson.A{"$operationType", "delete"}}}}, {Key: "then", Value: "$fullDocumentBeforeChange"}},
			bson.D{{Key: "case", Value: bson.D{{Key: "$in", Value: bson.A{"$ns.coll", append(bson.A{}, histories...)}}}}, {Key: "then", Value: "$fullDocument.resource"}},
		}},
		{Key: "default", Value: "$fullDocument"},
	}}}
	return bson.D{
		{Key: "operationType", Value: 1},
		{Key: "clusterTime", Value: 1},
		{Key: "wallTime", Value: 1},
		{Key: "ns", Value: 1},
		{Key: "to", Value: 1}, // of a rename only
		{Key: "documentKey", Value: 1},
		{Key: touchedPart, Value: bson.D{{Key: "$let", Value: bson.D{
			{Key: "vars", Value: bson.D{{Key: "document", Value: document}}},
			{Key: "in", Value: when(
				bson.D{{Key: "$eq", Value: bson.A{bson.D{{Key: "$type", Value: "$$document"}}, "object"}}},
				bson.D{{Key: "$switch", Value: bson.D{{Key: "branches", Value: branches}, {Key: "default", Value: "$$REMOVE"}}}},
			)},
		}}}},
	}
}

// touchedIn are the values of a path in a document that name patients.
func touchedIn(document, path string) bson.D {
	wanted := bson.D{{Key: "$and", Value: bson.A{
		bson.D{{Key: "$gte", Value: bson.A{"$$this", patientPrefix}}},
		bson.D{{Key: "$lt", Value: bson.A{"$$this", afterPatientPrefix}}},
	}}}
	if path == ownUUID {
		wanted = bson.D{{Key: "$eq", Value: bson.A{bson.D{{Key: "$type", Value: "$$this"}}, "string"}}}
	}
	return bson.D{{Key: "$let", Value: bson.D{
		{Key: "vars", Value: bson.D{{Key: "value", Value: document + "." + path}}},
		{Key: "in", Value: bson.D{{Key: "$filter", Value: bson.D{
			{Key: "input", Value: bson.D{{Key: "$cond", Value: bson.A{bson.D{{Key: "$isArray", Value: "$$value"}}, "$$value", bson.A{"$$value"}}}}},
			{Key: "cond", Value: wanted},
		}}}},
	}}}
}

const (
	// afterPatientPrefix is the first text after all those with the prefix.
	afterPatientPrefix = "Patient0"
	// proxyPrefix begins the id of a patient that stands for a person.
	proxyPrefix = "person."
)

func pathOf(resource string) string {
	for _, p := range patientPaths() {
		if slices.Contains(p.types, resource) {
			return p.path
		}
	}
	return ownUUID
}

// maxUUIDBytes is the longest uuid of a patient or person. The FHIR server keeps the text of an id
// that holds a uuid, and FHIR's ids have 64 characters at most.
const maxUUIDBytes = 1 << 10

// touches appends the patients and persons that a change concerns.
func (m *Mapper) touches(c *Change, o *Output) {
	switch c.Name.Operation {
	case "insert", "replace", "update", "delete":
	default:
		return
	}
	list := c.part(touchedPart)
	if _, ok := list.array(); !ok {
		switch {
		case c.Name.Operation != "delete":
			o.failTouches(c, "the document was deleted before its update could be looked up")
		case m.cfg.Histories == "":
			o.failTouches(c, "deleted without a pre-image: switch changeStreamPreAndPostImages on for the collection")
		}
		return
	}
	resource, found := c.route.resource, false
	for _, v := range list.items() {
		uuid, ok := v.text()
		if !ok || len(uuid) == 0 {
			continue
		}
		found = true
		isPerson := resource == personType
		if !isPerson && resource != patient {
			if uuid, isPerson = referred(uuid); len(uuid) == 0 {
				continue
			}
		}
		switch {
		case len(uuid) > maxUUIDBytes:
			o.failTouches(c, "the uuid of a patient or person has more than 1024 bytes")
		case isPerson && m.cfg.Topics[KindPersonDataChange] == "":
		default: // Patients count without events of their own too: for the persons that link to them.
			o.Touches = append(o.Touches, Touch{Person: isPerson, UUID: uuid, Type: resource})
		}
	}
	if !found && (resource == patient || resource == personType) {
		o.failTouches(c, "_uuid is missing, empty or not a string")
	}
}

// referred is the uuid in a reference's companion, and whether it is a person's.
func referred(reference []byte) (uuid []byte, isPerson bool) {
	uuid, ok := bytes.CutPrefix(reference, []byte(patientPrefix))
	if !ok {
		return nil, false
	}
	uuid, _, _ = bytes.Cut(uuid, []byte{'/'})
	return bytes.CutPrefix(uuid, []byte(proxyPrefix))
}

// failTouches fails a change once for each kind.
func (o *Output) failTouches(c *Change, reason string) {
	for i := range c.route.kinds {
		o.fail(c.route.kinds[i].Name, c, reason)
	}
}

// Window is a span of cluster time whose changes of one patient or person make one event.
type Window struct {
	// Start and End bound it, in seconds; End is not included.
	Start, End uint32
	// Part counts the parts before, of a window that had too many patients for one.
	Part uint32
}

// WindowAt is the window of a time, by the length of windows.
func (m *Mapper) WindowAt(second uint32) Window {
	length := uint32(m.cfg.Window / time.Second)
	start := second - second%length
	return Window{Start: start, End: start + length}
}

// Windowed tells whether the mapper's events are those of windows: Append gives Touches then.
func (m *Mapper) Windowed() bool { return m.cfg.Window > 0 }

// LinksPersons tells whether persons have events of what their links' patients have.
func (m *Mapper) LinksPersons() bool { return m.Windowed() && m.cfg.Topics[KindPersonDataChange] != "" }

// DataChange is a patient or person with the types of resources that changed.
type DataChange struct {
	Kind  Kind
	UUID  string
	Types []string
	// Last is the last change that counts.
	Last ChangeName
	// Unsure says that only links tell of it, which may be others at another time.
	Unsure bool
}

// nameOfDataChange names an event: the time and token of its Last, the collection of what it is
// about and, in the place of an _id, the uuid. The events of a window would have one name without.
func (m *Mapper) nameOfDataChange(d *DataChange) ChangeName {
	name := d.Last
	name.Database, name.Collection, name.Operation = m.cfg.Database, patient+suffixR4, "update"
	name.DocumentKey, _ = bson.Marshal(bson.D{{Key: "_id", Value: d.UUID}}) // A text cannot fail.
	if d.Kind == KindPersonDataChange {
		name.Collection = personType + suffixR4
	}
	return name
}

// DataChangeID is the id of a patient's or person's event in a window.
func DataChangeID(kind Kind, uuid []byte, w Window) string {
	name := string(kind)
	if w.Part > 0 {
		name += "/" + strconv.FormatUint(uint64(w.Part), 10)
	}
	const millis = 1000
	var at [16]byte
	binary.BigEndian.PutUint64(at[:], uint64(w.Start)*millis)
	binary.BigEndian.PutUint64(at[8:], uint64(w.End-w.Start)*millis)
	id, _ := eventID(nil, nil, []byte(name), uuid, at[:])
	return string(id)
}

// AppendDataChange appends the event of a patient or person in a window, nothing if its kind
// is off.
func (m *Mapper) AppendDataChange(w Window, d *DataChange, o *Output) {
	m.appendDataChange(DataChangeID(d.Kind, []byte(d.UUID), w), int64(w.End)*1000, d, o)
}

// AppendRepairedDataChange appends the event of what a repair of lost history finds. It has the
// repair's end in the place of a window's, later by the number of the repair's page in
// milliseconds, so that each has an id of its own.
func (m *Mapper) AppendRepairedDataChange(at int64, d *DataChange, o *Output) {
	m.appendDataChange(repairedDataChangeID(d.Kind, []byte(d.UUID), at), at, d, o)
}

// repairedDataChangeID is the id of an event of a repair.
func repairedDataChangeID(kind Kind, uuid []byte, at int64) string {
	var time [8]byte
	binary.BigEndian.PutUint64(time[:], uint64(at))
	id, _ := eventID(nil, nil, []byte(string(kind)+"/repair"), uuid, time[:])
	return string(id)
}

// knownParts is how many parts of a window MadeDataChange looks for.
const knownParts = 4

// MadeDataChange tells whether a record is of a window, or of a repair, with the id that its key
// and its time make.
func (m *Mapper) MadeDataChange(r Record, key []byte) bool {
	kind := KindPatientDataChange
	switch string(r.Type) {
	case patientDataChangeType:
	case personDataChangeType:
		kind = KindPersonDataChange
	default:
		return false
	}
	at, err := time.Parse(time.RFC3339, string(r.Time))
	if err != nil || !m.Windowed() {
		return false
	}
	if string(r.ID) == repairedDataChangeID(kind, key, at.UnixMilli()) {
		return true
	}
	end := uint32(at.Unix())
	w := m.WindowAt(end - 1)
	for ; w.End == end && w.Part < knownParts; w.Part++ {
		if kind == KindPersonDataChange && string(r.ID) == DataChangeID(kind, key, w) {
			return true
		}
	}
	return false
}

func (m *Mapper) appendDataChange(id string, at int64, d *DataChange, o *Output) {
	topic := m.cfg.Topics[d.Kind]
	if topic == "" {
		return
	}
	resource, typ := patient, patientDataChangeType
	if d.Kind == KindPersonDataChange {
		resource, typ = personType, personDataChangeType
	}
	o.grow()
	start := len(o.arena)
	o.arena = append(o.arena, id...)
	idText := o.since(start)
	start = len(o.arena)
	o.arena = append(o.arena, d.UUID...)
	key := o.since(start)
	start = len(o.arena)
	o.arena = appendInstant(o.arena, at)
	instant := o.since(start)
	start = len(o.arena)
	b := append(o.arena, `{"id":`...)
	b = appendString(b, key)
	b = append(b, `,"resourceType":"`...)
	b = append(b, resource...)
	b = append(b, `","changedResourceTypes":["`...)
	b = append(b, strings.Join(d.Types, `","`)...) // They need no escaping.
	o.arena = append(b, `"]}`...)
	headers := o.header(m.dataHeaders[typ]...)
	headers[headerID].Value, headers[headerTime].Value = idText, instant
	o.Events = append(o.Events, Event{
		Kind: d.Kind, Topic: topic, ID: id, Key: key, Value: o.since(start), Change: m.nameOfDataChange(d), Unsure: d.Unsure, Headers: headers,
	})
}
