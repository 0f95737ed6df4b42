package mapper

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// KindChange are the change events: a FHIR AuditEvent for each create and change of an
// enabled resource type.
const KindChange Kind = "change"

func changeKind() Definition {
	return Definition{
		Name:           KindChange,
		Summary:        "Change events, of created and changed resources.",
		Topic:          "business.events",
		EnableVariable: "ENABLE_EVENTS_KAFKA", TopicVariable: "KAFKA_RESOURCE_CHANGE_TOPIC", ResourcesVariable: "KAFKA_ENABLED_RESOURCES",
		Resources:  []string{"Consent", exportStatus},
		Operations: []string{"insert", "update", "delete"},
		Profiles:   []Profile{ProfileSeed, ProfileStrict},
		head:       auditHead,
		wrote:      func(_ Record, body recordBody) bool { return body.ResourceType == auditEvent },
		everywhere: func(document string) bson.D {
			return bson.D{{Key: "sourceType", Value: sourceTypeExpression(document)}}
		},
		sources: func(cfg Config) []source { return cfg.chosenSources(Choice{cfg.Resources, cfg.Deletes}) },
		events:  (*Mapper).appendChange,
	}
}

// Constants of the server's ChangeEventProducer. They are the contract, with its oddities:
// a date in recorded, a code without system, the changed resource as agent.
const (
	auditHead    = `{"resourceType":"AuditEvent","id":"`
	auditAction  = `","type":{"code":"110100"},"action":"`
	auditPeriod  = `","period":{"start":"`
	auditEnd     = `","end":"`
	auditRecord  = `"},"recorded":"`
	auditPurpose = `","purposeOfEvent":[{"coding":[{"system":"https://www.icanbwell.com/event-purpose","code":"`
	auditAgent   = `"}]}],"agent":[{"who":{"reference":`
	auditSource  = `},"requestor":true}],"source":{`
	auditSite    = `"site":`
	auditObserve = `"observer":{"reference":"Organization/bwell"}`
	auditType    = `,"type":[{"system":"https://www.icanbwell.com/sourceType","code":`
)

// What strict events have instead. FHIR leaves the initiator open where it is not known, so the
// agent is no requestor.
const (
	strictAction = `","type":{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110100"},"action":"`
	strictAgent  = `"}]}],"agent":[{"who":{"reference":"Device/fhir-server"},"requestor":false}],"source":{`
)

// action is the AuditEvent's action and the word of its purpose code.
type action struct{ code, word string }

func (m *Mapper) actionOf(operation string) (action, bool) {
	switch operation {
	case "insert":
		return action{"C", " Create"}, true
	case "replace", "update":
		return action{"U", " Change"}, true
	case "delete":
		return action{"D", " Delete"}, m.cfg.Deletes
	default:
		return action{}, false
	}
}

// documentFailure says why no event can be made of the change's document, or "".
func (c *Change) documentFailure() string {
	if !c.doc.present {
		if c.Name.Operation == "delete" {
			return "deleted without a pre-image: switch changeStreamPreAndPostImages on for the collection"
		}
		return "the document was deleted before its update could be looked up"
	}
	if id, ok := c.doc.id.text(); !ok {
		if c.doc.id.absent() {
			return "id is missing"
		}
		return "id is not a string"
	} else if len(id) == 0 {
		return "id is empty"
	}
	if _, ok := c.doc.uuid.text(); !ok && !c.doc.uuid.absent() {
		return "_uuid is not a string"
	}
	v := c.versionOf()
	if _, ok := v.versionID.text(); !ok && !v.versionID.absent() {
		return "meta.versionId is not a string"
	}
	ms, ok := v.lastUpdated.millis()
	if !ok && !v.lastUpdated.absent() {
		return "meta.lastUpdated is not a date"
	}
	if ok && !inRange(ms) {
		return "meta.lastUpdated is outside the years 1 to 9999"
	}
	return ""
}

// when is the time of the changed version; for a delete, of the delete itself.
func (c *Change) when() int64 {
	if c.Name.Operation != "delete" {
		if ms, ok := c.versionOf().lastUpdated.millis(); ok {
			return ms
		}
	}
	return c.WallTime
}

// Written is when the FHIR server wrote the change's version, or answered its request, by
// the FHIR server's clock. It is false if the change has no such time.
func (c *Change) Written() (time.Time, bool) {
	at := c.versionOf().lastUpdated
	if c.access.qualifies {
		at = c.access.at
	}
	ms, ok := at.millis()
	if !ok || !inRange(ms) {
		return time.Time{}, false
	}
	return time.UnixMilli(ms).UTC(), true
}

// appendChange appends the change event (specification section 1).
func (m *Mapper) appendChange(c *Change, facts Facts, to destination, o *Output) {
	act, ok := m.actionOf(c.Name.Operation)
	if !ok {
		return
	}
	if reason := c.documentFailure(); reason != "" {
		o.fail(KindChange, c, reason)
		return
	}
	sourceType, ok := c.sourceType.text()
	if !ok && !c.sourceType.absent() {
		o.fail(KindChange, c, "valueString of the extension sourceType is not a string")
		return
	}
	id, _ := c.doc.id.text()

	o.grow()
	start := len(o.arena)
	kind := string(KindChange)
	if act.code == "D" {
		kind += "/delete" // A delete has no version of its own: it shares the last one's.
	}
	o.arena = c.appendIdentity(o.arena, o, kind)
	self := o.since(start)
	eventID, b3 := string(self), self
	site := []byte(facts.RequestID)
	if len(site) == 0 && !hasHistory(c.route.resource) {
		site = id
	}
	if len(site) > 0 {
		start = len(o.arena)
		o.arena = appendText(o.arena, site)
		b3 = o.since(start)
	}
	start = len(o.arena)
	o.arena = append(o.arena, id...)
	key := o.since(start)
	if to.strict {
		site, sourceType = fhirText(site), fhirCode(sourceType)
	}

	start = len(o.arena)
	b := append(o.arena, auditHead...)
	b = append(b, eventID...)
	if to.strict {
		b = append(b, strictAction...)
	} else {
		b = append(b, auditAction...)
	}
	b = append(b, act.code...)
	b = append(b, auditPeriod...)
	at := len(b)
	if to.strict {
		b = appendInstant(b, c.when())
	} else {
		b = appendDay(b, c.when())
	}
	when := b[at:]
	b = append(b, auditEnd...)
	b = append(b, when...)
	b = append(b, auditRecord...)
	b = append(b, when...)
	b = append(b, auditPurpose...)
	b = append(b, c.route.resource...) // A resource type needs no escaping.
	b = append(b, act.word...)
	if to.strict {
		b = append(b, strictAgent...)
	} else {
		b = append(b, auditAgent...)
		b = appendString(b, id, c.route.resource, "/")
		b = append(b, auditSource...)
	}
	if len(site) > 0 {
		b = append(b, auditSite...)
		b = appendString(b, site)
		b = append(b, ',')
	}
	b = append(b, auditObserve...)
	if len(sourceType) > 0 {
		b = append(b, auditType...)
		b = appendString(b, sourceType)
		b = append(b, `}]`...)
	}
	b = append(b, '}')
	if to.strict {
		b = appendEntity(b, c.route.resource, id)
	}
	o.arena = append(b, '}')
	value := o.since(start)

	o.Events = append(o.Events, Event{
		Kind: KindChange, Topic: to.topic, ID: eventID, Key: key, Value: value, Change: c.Name,
		Headers: o.traced(to, b3, self, Header{"b3", b3}, Header{"version", c.route.version}),
	})
}

// appendEntity appends the changed resource as a strict event names it: by a reference, or by
// an identifier where FHIR has no such reference.
func appendEntity(dst []byte, resource string, id []byte) []byte {
	dst = append(dst, `,"entity":[{"what":{`...)
	if resource != exportStatus && fhirID(id) { // ExportStatus is no FHIR type.
		dst = append(dst, `"reference":`...)
		dst = appendString(dst, id, resource, "/")
	} else {
		dst = append(dst, `"identifier":{"value":`...)
		dst = appendString(dst, fhirText(id), resource, "/")
		dst = append(dst, '}')
	}
	return append(dst, `}}]`...)
}

// Version names the version that a change made, as its history document does. Times
// are milliseconds since 1970.
type Version struct {
	Collection            string
	UUID, VersionID       string
	LastUpdated, WallTime int64
}

// RequestedVersion gives the version whose request id the change event of c needs.
// It is false if c has no change event, or if the resource has no history: the server
// keeps none of ExportStatus.
func (c *Change) RequestedVersion() (Version, bool) {
	if c.route == nil || !c.route.makes(KindChange) {
		return Version{}, false
	}
	return c.Version()
}

// Version gives the version that the change made; false if it made none, or none that a history
// keeps.
func (c *Change) Version() (Version, bool) {
	if c.route == nil || !c.route.history() || c.documentFailure() != "" {
		return Version{}, false
	}
	v := c.versionOf()
	uuid, _ := c.doc.uuid.text()
	versionID, okVersion := v.versionID.text()
	ms, okTime := v.lastUpdated.millis()
	if len(uuid) == 0 || !okVersion || !okTime || c.Name.Operation == "delete" {
		return Version{}, false
	}
	return Version{
		Collection: c.route.namespace.Collection,
		UUID:       string(uuid), VersionID: string(versionID), LastUpdated: ms, WallTime: c.WallTime,
	}, true
}
