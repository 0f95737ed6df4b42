package mapper

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// KindAccessedEverything are the operation usage events: a binary CloudEvent for each
// successful $everything of a patient-scoped token.
const KindAccessedEverything Kind = "accessed_everything"

func accessedEverythingKind() Definition {
	return Definition{
		Name:           KindAccessedEverything,
		Summary:        "Usage events, of each $everything by a patient-scoped token.",
		Topic:          "fhir.operation.usage.events",
		EnableVariable: "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS", TopicVariable: "KAFKA_FHIR_OPERATION_USAGE_EVENT_TOPIC",
		Operations: []string{"insert"},
		Profiles:   []Profile{ProfileSeed, ProfileStrict},
		wrote:      func(r Record, _ recordBody) bool { return string(r.Type) == accessedEverythingType },
		sources:    accessedEverythingSources,
		events:     (*Mapper).appendAccessedEverything,
	}
}

// accessedEverythingType is the CloudEvents type of usage events.
const accessedEverythingType = "AccessedEverything"

// accessedEverythingSources are the two collections that record requests, and the collection
// of Persons, whose changes make no events.
func accessedEverythingSources(cfg Config) []source {
	persons := cfg.resourceSource(personType, suffixR4)
	persons.factsOnly = true
	persons.part, persons.fields = personPart, cfg.personFields()
	return []source{{
		namespace: cfg.AccessLogs, time: "timestamp",
		filter: func(prefix string) bson.D {
			return bson.D{
				{Key: prefix + "request.url", Value: everythingURL()},
				{Key: prefix + "outcomeDesc", Value: "Success"},
			}
		},
		part: "accessLog",
		fields: func(document string) bson.D {
			return bson.D{
				{Key: "requestId", Value: document + ".request.systemGeneratedRequestId"},
				{Key: "url", Value: document + ".request.url"},
				{Key: "method", Value: document + ".request.method"},
				{Key: "outcome", Value: document + ".outcomeDesc"},
				{Key: "scopes", Value: document + ".agent.scopes"},
				{Key: "altId", Value: document + ".agent.altId"},
				{Key: "timestamp", Value: document + ".timestamp"},
			}
		},
	}, {
		namespace: cfg.AuditEvents, time: "recorded",
		filter: func(prefix string) bson.D {
			return bson.D{
				{Key: prefix + "action", Value: "R"},
				{Key: prefix + "entity.detail.valueString", Value: everythingURL()},
				{Key: prefix + "meta.source", Value: nil},
			}
		},
		part: "auditEvent",
		fields: func(document string) bson.D {
			return bson.D{
				{Key: "action", Value: document + ".action"},
				{Key: "outcome", Value: document + ".outcome"},
				{Key: "recorded", Value: document + ".recorded"},
				{Key: "source", Value: document + ".meta.source"},
				{Key: "security", Value: document + ".meta.security"},
				{Key: "who", Value: document + ".agent.who.reference"},
				{Key: "details", Value: document + ".entity.detail"},
			}
		},
	}, persons}
}

// everythingURL matches $everything requests, so that MongoDB leaves out nearly all others.
func everythingURL() bson.Regex {
	return bson.Regex{Pattern: `/\$everything/?([?#]|$)`, Options: "i"}
}

// Access is a request for which an AccessedEverything event is sent.
type Access struct {
	// RequestID is the server's own id of the request. An access log and several
	// AuditEvents may record one request; it gets one event.
	RequestID string
	// ClientPersonID is the client FHIR person, "" if not known.
	ClientPersonID string
}

// Access gives the request behind a change of access logs or AuditEvents. It is false if the
// request gets no event, or if this record of it lacks a field that the event needs: another
// record of the same request may have the field.
func (c *Change) Access() (Access, bool) {
	if !c.access.qualifies || c.Name.Operation != "insert" {
		return Access{}, false
	}
	id, _, reason := c.request()
	if reason != "" {
		return Access{}, false
	}
	return Access{RequestID: string(id), ClientPersonID: string(c.access.client)}, true
}

// request is the id and the time of a $everything request, or why there is none.
func (c *Change) request() (id []byte, at int64, reason string) {
	id, ok := c.access.requestID.text()
	if !ok || len(id) == 0 {
		return nil, 0, "the request's id is missing or not a string"
	}
	at, ok = c.access.at.millis()
	switch {
	case !ok && !c.access.at.absent():
		return nil, 0, "the request's time is not a date"
	case !ok:
		at = c.WallTime
	}
	if !inRange(at) {
		return nil, 0, "the request's time is outside the years 1 to 9999"
	}
	return id, at, ""
}

// appendAccessedEverything appends the operation usage event (specification
// section 2) in CloudEvents binary mode.
func (m *Mapper) appendAccessedEverything(c *Change, facts Facts, to destination, o *Output) {
	if !c.access.qualifies || c.Name.Operation != "insert" {
		return
	}
	requestID, at, reason := c.request()
	if reason != "" {
		o.fail(KindAccessedEverything, c, reason)
		return
	}

	o.grow()
	start := len(o.arena)
	o.arena, o.scratch = eventID(o.arena, o.scratch, []byte(KindAccessedEverything), requestID)
	id := o.since(start)
	start = len(o.arena)
	// The server's key is a random uuid other than the id. This key differs from the id
	// too, but is the same on every path.
	o.arena, o.scratch = eventID(o.arena, o.scratch, []byte("accessed_everything/key"), id)
	key := o.since(start)
	start = len(o.arena)
	o.arena = appendInstant(o.arena, at)
	time := o.since(start)

	start = len(o.arena)
	b := append(o.arena, '{')
	b = appendMember(b, `"managingOrganization":`, []byte(facts.ManagingOrganization))
	b = appendMember(b, `"bwellFhirPersonId":`, []byte(facts.BwellPersonID))
	b = appendMember(b, `"clientFhirPersonId":`, c.access.client)
	o.arena = append(b, '}')
	value := o.since(start)

	headers := append(cloudEventHeaders(id, time, accessedEverythingType), Header{"ce_integrations", []byte(`["analytics"]`)})
	o.Events = append(o.Events, Event{
		Kind: KindAccessedEverything, Topic: to.topic, ID: string(id), Key: key, Value: value, Change: c.Name,
		Headers: o.traced(to, requestID, id, to.attributes(headers)...),
	})
}

// The places of an event's own headers among cloudEventHeaders.
const headerID, headerTime = 1, 2

// cloudEventHeaders are the headers of a binary CloudEvent, in the FHIR server's order.
func cloudEventHeaders(id, time []byte, typ string) []Header {
	const contentType = "application/json;charset=utf-8"
	return append(make([]Header, 0, 9), // with room for those that a kind or profile has more
		Header{"content-type", []byte(contentType)},
		Header{"ce_id", id},
		Header{"ce_time", time},
		Header{"ce_type", []byte(typ)},
		Header{"ce_source", []byte(defaultSource)},
		Header{"ce_specversion", []byte("1.0")},
		Header{"ce_datacontenttype", []byte(contentType)},
	)
}

// attributes are the headers of a binary CloudEvent in its profile.
func (d destination) attributes(headers []Header) []Header {
	if d.strict { // CloudEvents has this attribute in content-type alone.
		headers = slices.DeleteFunc(headers, func(h Header) bool { return h.Key == "ce_datacontenttype" })
	}
	return headers
}

// appendMember appends a member of a JSON object, or nothing if it is empty.
func appendMember(dst []byte, name string, s []byte) []byte {
	if len(s) == 0 {
		return dst
	}
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, name...)
	return appendString(dst, s)
}
