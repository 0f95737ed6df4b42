package mapper

import (
	"bytes"
	"strings"
	"time"
)

// access is a patient's $everything request, read from an access log or an AuditEvent.
type access struct {
	// qualifies says that the server sends an event for the request: a successful
	// GET $everything of a Patient or Person with a patient-scoped token.
	qualifies bool
	requestID value
	client    []byte // client FHIR person id; empty if not known
	at        value
}

// personReference is the beginning of an AuditEvent's reference to the person behind a
// patient-scoped token.
const personReference = "Patient/person."

// everythingPath tells whether the FHIR server's router takes a request URL to $everything
// of Patient or Person: <base version>/Patient/$everything or
// <base version>/Patient/<id>/$everything, with any prefix and any query. Like that router
// it ignores case, allows one slash at the end, and does not decode: %24everything is no
// operation there.
func everythingPath(url []byte) bool {
	path := string(url)
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")
	n := len(parts)
	if n < 3 || !strings.EqualFold(parts[n-1], "$everything") {
		return false
	}
	isSubject := func(s string) bool { return strings.EqualFold(s, "Patient") || strings.EqualFold(s, "Person") }
	if isSubject(parts[n-3]) {
		return parts[n-2] != ""
	}
	// Practitioner/Patient/$everything concerns the Practitioner whose id is Patient: a
	// resource type follows the base version, 4_0_0.
	base := parts[n-3]
	return isSubject(parts[n-2]) && base != "" && base[0] >= '0' && base[0] <= '9'
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
	var url, method, outcome, scopes []byte
	for key, v := range v.fields() {
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

// ownTimes is the largest difference of recorded and meta.lastUpdated in the server's own
// AuditEvents: the server uses one time for both, older servers took the time twice.
const ownTimes = 10 * time.Millisecond

// ownAuditEvent tells whether the FHIR server wrote an AuditEvent of a request of its own.
// An AuditEvent that a client has stored proves nothing. Three fields tell them apart:
// clients must set meta.source, and the server leaves it out; the server's own have the
// access tag bwell, which a client needs a right to write; and the server sets
// meta.lastUpdated when it writes, so a client's recorded equals it only by chance. An
// AuditEvent whose recorded is not a date counts as the server's and becomes a dead letter.
func ownAuditEvent(source, security, recorded, lastUpdated value) bool {
	if !source.absent() || !hasTag(security, accessTag, ownTag) {
		return false
	}
	at, ok := recorded.millis()
	if !ok {
		return !recorded.absent()
	}
	written, ok := lastUpdated.millis()
	return ok && time.UnixMilli(at).Sub(time.UnixMilli(written)).Abs() <= ownTimes
}

// The access tag of the server's own AuditEvents, in meta.security.
const (
	accessTag = "https://www.icanbwell.com/access"
	ownTag    = "bwell"
)

// hasTag tells whether a list of {system, code} has a tag.
func hasTag(v value, system, code string) bool {
	for _, v := range v.items() {
		if s, c := readPair(v, "system", "code"); string(s) == system && isText(c, code) {
			return true
		}
	}
	return false
}

func isText(v value, text string) bool {
	t, ok := v.text()
	return ok && string(t) == text
}

func readAuditEvent(v value, lastUpdated value) (a access) {
	var action, url []byte
	var outcome, who, details, source, security value
	for key, v := range v.fields() {
		switch string(key) {
		case "action":
			action, _ = v.text()
		case "outcome":
			outcome = v
		case "recorded":
			a.at = v
		case "source":
			source = v
		case "security":
			security = v
		case "who":
			who = v
		case "details":
			details = v
		}
	}
	url, a.requestID = readDetails(details)
	a.client = firstPerson(who)
	succeeded := outcome.absent() || isText(outcome, "0") // AuditEvent.outcome: 0 is success.
	a.qualifies = string(action) == "R" && succeeded && len(a.client) > 0 && everythingPath(url) &&
		ownAuditEvent(source, security, a.at, lastUpdated)
	return a
}

// firstPerson finds the id in the first Patient/person.<id> of agent[].who.reference.
func firstPerson(v value) []byte {
	for _, v := range v.items() {
		if t, ok := v.text(); ok && bytes.HasPrefix(t, []byte(personReference)) {
			return t[len(personReference):]
		}
	}
	return nil
}

// readDetails finds the request's URL and the server's own request id in
// entity[].detail[], a list of lists of {type, valueString}.
func readDetails(v value) (url []byte, requestID value) {
	for _, details := range v.items() {
		for _, v := range details.items() {
			name, text := readPair(v, "type", "valueString")
			switch {
			case string(name) == "requestUrl" && url == nil:
				url, _ = text.text()
			case string(name) == "requestId" && requestID.absent():
				requestID = text
			}
		}
	}
	return url, requestID
}

// readPair reads a name and a value from a document, by their keys.
func readPair(v value, nameKey, valueKey string) (name []byte, paired value) {
	for key, v := range v.fields() {
		switch string(key) {
		case nameKey:
			name, _ = v.text()
		case valueKey:
			paired = v
		}
	}
	return name, paired
}
