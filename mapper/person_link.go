package mapper

import (
	"bytes"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// KindPersonLink are the events of patients that were linked to a person, or unlinked, by hand:
// through the FHIR server's /admin.
const KindPersonLink Kind = "person_link"

func personLinkKind() Definition {
	return Definition{
		Name:           KindPersonLink,
		Summary:        "Person link events, of links by hand.",
		Topic:          "fhir.manual.person.linking.events",
		OptIn:          true,
		EnableVariable: "ENABLE_PERSON_PATIENT_MANUAL_LINKING_KAFKA_EVENTS", TopicVariable: "KAFKA_PATIENT_PERSON_LINK_EVENT_TOPIC",
		Resources:  []string{personType},
		Operations: []string{"insert", "update"},
		ByHistory:  true,
		Profiles:   []Profile{ProfileSeed, ProfileStrict},
		wrote: func(r Record, _ recordBody) bool {
			return string(r.Type) == linkedType || string(r.Type) == unlinkedType
		},
		sources: personLinkSources,
		events:  (*Mapper).appendPersonLink,
	}
}

const (
	// The CloudEvents types of person link events.
	linkedType   = "PatientPersonManuallyLinked"
	unlinkedType = "PatientPersonManuallyUnlinked"

	personType    = "Person"
	patientPrefix = "Patient/"
	// adminURL begins the URL in the history of a write through /admin; others begin with a slash.
	adminURL = "4_0_0/" + personType + "/"
	// firstVersion is the version of a Person that the FHIR server creates.
	firstVersion = "1"
)

// personLinkSources are the Persons of R4.
func personLinkSources(cfg Config) []source {
	s := cfg.resourceSource(personType, suffixR4)
	s.part, s.fields = personPart, cfg.personFields()
	return []source{s}
}

// VersionHistory is what the history tells of the version that a change made.
type VersionHistory struct {
	// RequestID and URL are of the request that wrote the version, "" while its own document is
	// missing. Answered says that the document has a response.
	RequestID, URL string
	Answered       bool
	// Before are the links of the version before, maybe none; nil while that version is missing.
	Before bson.RawArray
}

// MayLink tells whether it depends on the history whether the change makes an event. The FHIR
// server writes versions only, and by hand the first one of a Person has one link, to a patient.
func (c *Change) MayLink() bool {
	if c.route == nil || !c.route.makes(KindPersonLink) || c.Name.Operation != "insert" && c.Name.Operation != "replace" {
		return false
	}
	if _, ok := c.Version(); !ok {
		return false
	}
	return !c.first() || c.linkChange(nil).typ != ""
}

// Linked tells whether the history tells enough of the change.
func (c *Change) Linked(h *VersionHistory) bool {
	_, missing := c.manualLink(h)
	return missing == ""
}

func (c *Change) first() bool {
	versionID, _ := c.doc.versionID.text()
	return string(versionID) == firstVersion
}

// linkChange is the CloudEvents type of a change of a Person's links, and the patient's id; ""
// if it is not exactly one patient that was linked, or unlinked.
type linkChange struct {
	typ     string
	patient []byte
}

// manualLink is the link that was made or removed by hand. While the history does not tell, it
// says which part of it is missing.
func (c *Change) manualLink(h *VersionHistory) (link linkChange, missing string) {
	if h == nil {
		h = &VersionHistory{}
	}
	found := h.RequestID != ""
	if found && (!strings.HasPrefix(h.URL, adminURL) || h.Answered) {
		return linkChange{}, ""
	}
	compared := c.first() || h.Before != nil
	if compared {
		link = c.linkChange(linksOf(value{bson.TypeArray, h.Before}))
	}
	switch {
	case compared && (found || link.typ == ""):
		return link, ""
	case !found:
		return linkChange{}, "the version's history is missing"
	default:
		return linkChange{}, "the history of the version before is missing"
	}
}

// linkChange compares the links with those before.
func (c *Change) linkChange(before []personLink) linkChange {
	now := linksOf(c.personLinks())
	added, removed := without(now, before), without(before, now)
	link := linkChange{typ: linkedType}
	switch {
	case len(added) == 1 && len(removed) == 0:
		if c.first() && len(added[0].uuid) > 0 { // Of a Person that it creates the server sends the patient's uuid.
			added[0].reference = nil
		}
		link.patient = added[0].patient()
	case len(added) == 0 && len(removed) > 0:
		link.typ = unlinkedType
		link.patient = unlinked(removed)
	}
	if len(link.patient) == 0 {
		return linkChange{}
	}
	return link
}

// unlinked is the id of the one patient to which all of the links led, nil if there are more.
// Links of several spellings go at once where the caller gives the uuid.
func unlinked(removed []personLink) []byte {
	first := removed[0]
	for _, l := range removed[1:] {
		switch {
		case bytes.Equal(l.text(), removed[0].text()):
		case len(l.uuid) > 0 && bytes.Equal(l.uuid, removed[0].uuid):
			first.reference = nil
		default:
			return nil
		}
	}
	return first.patient()
}

// personLink is a link of a Person as it is stored. Either text may be missing.
type personLink struct{ reference, uuid []byte }

// text tells links apart, as the FHIR server does by the reference.
func (l personLink) text() []byte {
	if len(l.reference) > 0 {
		return l.reference
	}
	return l.uuid
}

// patient is the id of the link's patient as it is written there, nil for other links.
func (l personLink) patient() []byte {
	id, ok := bytes.CutPrefix(l.text(), []byte(patientPrefix))
	if !ok {
		return nil
	}
	return id
}

// without are the links that others has not, or has not as often.
func without(links, others []personLink) (rest []personLink) {
	counts := make(map[string]int, len(others))
	for _, l := range others {
		counts[string(l.text())]++
	}
	for _, l := range links {
		if counts[string(l.text())] > 0 {
			counts[string(l.text())]--
			continue
		}
		rest = append(rest, l)
	}
	return rest
}

// linksOf reads links. One without any text counts for nothing.
func linksOf(v value) (links []personLink) {
	for _, v := range v.items() {
		if l := readLink(v); len(l.text()) > 0 {
			links = append(links, l)
		}
	}
	return links
}

// readLink reads a link as the history has it, or its target alone as the projection gives it.
func readLink(v value) (l personLink) {
	inner := member(v, "target")
	if inner.absent() {
		inner = v
	}
	for key, v := range inner.fields() {
		switch string(key) {
		case "reference":
			l.reference, _ = v.text()
		case "_uuid":
			l.uuid, _ = v.text()
		}
	}
	return l
}

// appendPersonLink appends the event of a patient that was linked or unlinked by hand, in
// CloudEvents binary mode.
func (m *Mapper) appendPersonLink(c *Change, facts Facts, to destination, o *Output) {
	if c.Name.Operation != "insert" && c.Name.Operation != "replace" {
		return
	}
	if reason := c.documentFailure(); reason != "" {
		o.fail(KindPersonLink, c, reason)
		return
	}
	if !c.MayLink() {
		return
	}
	link, missing := c.manualLink(facts.History)
	switch {
	case facts.IDsOnly:
		link.typ = linkedType
	case missing != "":
		o.fail(KindPersonLink, c, missing)
		return
	case link.typ == "":
		return
	}
	var request string
	if facts.History != nil {
		request = facts.History.RequestID
	}

	o.grow()
	start := len(o.arena)
	o.arena = c.appendIdentity(o.arena, o, string(KindPersonLink))
	id := o.since(start)
	start = len(o.arena)
	o.arena = appendInstant(o.arena, c.when())
	time := o.since(start)
	uuid, _ := c.doc.uuid.text()
	start = len(o.arena)
	o.arena = append(o.arena, uuid...)
	key := o.since(start)

	start = len(o.arena)
	b := append(o.arena, '{')
	b = appendMember(b, `"personId":`, uuid)
	b = appendMember(b, `"patientId":`, link.patient)
	o.arena = append(b, '}')
	value := o.since(start)

	o.Events = append(o.Events, Event{
		Kind: KindPersonLink, Topic: to.topic, ID: string(id), Key: key, Value: value, Change: c.Name,
		Headers: o.traced(to, []byte(request), id, to.attributes(cloudEventHeaders(id, time, link.typ))...),
	})
}
