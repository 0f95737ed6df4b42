package mapper

import (
	"bytes"
	"strings"
)

// access is a patient's $everything request as an access log or an AuditEvent
// tells it.
type access struct {
	// qualifies says that the request is one that the server sends an event for:
	// GET $everything of a Patient or Person with a patient-scoped token, and no
	// failure.
	qualifies bool
	requestID value
	client    []byte // client FHIR person id; empty if not known
	at        value
}

// personReference is how an AuditEvent names the person behind a patient-scoped
// token.
const personReference = "Patient/person."

// everythingPath tells whether a request URL is …/Patient/$everything,
// …/Patient/<id>/$everything or the same of Person, whatever its query.
func everythingPath(url []byte) bool {
	path, _, _ := bytes.Cut(url, []byte("?"))
	parts := strings.Split(string(path), "/")
	n := len(parts)
	if n < 2 || parts[n-1] != "$everything" {
		return false
	}
	isSubject := func(s string) bool { return s == "Patient" || s == "Person" }
	return isSubject(parts[n-2]) || (n >= 3 && isSubject(parts[n-3]))
}

// patientScoped tells whether one of the token's scopes begins with patient/.
func patientScoped(scopes []byte) bool {
	for _, scope := range bytes.Fields(scopes) {
		if bytes.HasPrefix(scope, []byte("patient/")) {
			return true
		}
	}
	return false
}

func readAccessLog(v value) (a access) {
	raw, ok := v.document()
	if !ok {
		return a
	}
	var url, method, outcome, scopes []byte
	for e := walk(raw); ; {
		key, v, ok := e.next()
		if !ok {
			break
		}
		switch string(key) {
		case "requestId":
			a.requestID = v
		case "url":
			url, _ = v.text()
		case "method":
			method, _ = v.text()
		case "outcome":
			outcome, _ = v.text()
		case "scopes":
			scopes, _ = v.text()
		case "altId":
			a.client, _ = v.text()
		case "timestamp":
			a.at = v
		}
	}
	a.qualifies = string(outcome) == "Success" && string(method) == "GET" && patientScoped(scopes) && everythingPath(url)
	return a
}

func readAuditEvent(v value) (a access) {
	raw, ok := v.document()
	if !ok {
		return a
	}
	var action, url []byte
	var outcome value
	var who, details value
	for e := walk(raw); ; {
		key, v, ok := e.next()
		if !ok {
			break
		}
		switch string(key) {
		case "action":
			action, _ = v.text()
		case "outcome":
			outcome = v
		case "recorded":
			a.at = v
		case "who":
			who = v
		case "details":
			details = v
		}
	}
	url, a.requestID = readDetails(details)
	a.client = firstPerson(who)
	o, _ := outcome.text()
	succeeded := outcome.absent() || string(o) == "0" // AuditEvent.outcome: 0 is success.
	a.qualifies = string(action) == "R" && succeeded && len(a.client) > 0 && everythingPath(url)
	return a
}

// firstPerson finds the first Patient/person.<id> of agent[].who.reference.
func firstPerson(v value) []byte {
	list, ok := v.array()
	if !ok {
		return nil
	}
	for e := walk(list); ; {
		_, v, ok := e.next()
		if !ok {
			return nil
		}
		if t, ok := v.text(); ok && bytes.HasPrefix(t, []byte(personReference)) {
			return t[len(personReference):]
		}
	}
}

// readDetails finds the request's URL and the server's own request id in
// entity[].detail[], a list of lists of {type, valueString}.
func readDetails(v value) (url []byte, requestID value) {
	entities, ok := v.array()
	if !ok {
		return nil, value{}
	}
	for e := walk(entities); ; {
		_, v, ok := e.next()
		if !ok {
			return url, requestID
		}
		details, ok := v.array()
		if !ok {
			continue
		}
		for e := walk(details); ; {
			_, v, ok := e.next()
			if !ok {
				break
			}
			name, text := readDetail(v)
			switch {
			case string(name) == "requestUrl" && url == nil:
				url, _ = text.text()
			case string(name) == "requestId" && requestID.absent():
				requestID = text
			}
		}
	}
}

func readDetail(v value) (name []byte, text value) {
	raw, ok := v.document()
	if !ok {
		return nil, value{}
	}
	for e := walk(raw); ; {
		key, v, ok := e.next()
		if !ok {
			return name, text
		}
		switch string(key) {
		case "type":
			name, _ = v.text()
		case "valueString":
			text = v
		}
	}
}

// Access is a request that AccessedEverything is sent for.
type Access struct {
	// RequestID is the server's own id of the request. An access log and several
	// AuditEvents may tell of one request; it gets one event.
	RequestID string
	// ClientPersonID is the client FHIR person, "" if not known.
	ClientPersonID string
}

// Access gives the request behind a change of access logs or AuditEvents, false
// if it is none that an event is sent for, or no event can be made of this telling
// of it: another telling of the same request may do.
func (c *Change) Access() (Access, bool) {
	if !c.access.qualifies || c.Source.Operation != "insert" {
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
func (m *Mapper) appendAccessedEverything(c *Change, facts Facts, o *Output) {
	if c.Source.Operation != "insert" {
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
	// The server's key is a random uuid other than the id. Ours is as unlike the
	// id, but the same on every path.
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

	const contentType = "application/json;charset=utf-8"
	o.Events = append(o.Events, Event{
		Kind: KindAccessedEverything, Topic: m.cfg.AccessedEverythingTopic, ID: string(id), Key: key, Value: o.since(start), Source: c.Source,
		Headers: o.header(
			Header{"content-type", []byte(contentType)},
			Header{"ce_id", id},
			Header{"ce_time", time},
			Header{"ce_type", []byte("AccessedEverything")},
			Header{"ce_source", []byte(defaultSource)},
			Header{"ce_specversion", []byte("1.0")},
			Header{"ce_datacontenttype", []byte(contentType)},
			Header{"ce_integrations", []byte(`["analytics"]`)},
		),
	})
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
