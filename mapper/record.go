package mapper

import (
	"bytes"
	"encoding/json"
)

// Record has the parts of a Kafka record that identify its event.
type Record struct {
	// ID is the header ce_id of a binary CloudEvent or event_id of a compact event, and Type
	// the header ce_type; nil for other records.
	ID, Type []byte
	// Time is the header ce_time.
	Time  []byte
	Value []byte

	strict bool
}

// Header takes a header of the record.
func (r *Record) Header(key string, value []byte) {
	switch key {
	case "ce_id", headerEventID:
		r.ID = value
	case "ce_type":
		r.Type = value
	case "ce_time":
		r.Time = value
	case headerTraceparent:
		r.strict = true
	}
}

// Profile is the form of the record's event.
func (r *Record) Profile() Profile {
	if r.strict {
		return ProfileStrict
	}
	return ProfileSeed
}

// headerEventID is the header of compact events that holds the id.
const headerEventID = "event_id"

// recordBody has the members of a value that identify its event.
type recordBody struct {
	ResourceType string `json:"resourceType"`
	ID           string `json:"id"`
	Type         string `json:"type"`
	EventID      string `json:"eventId"`
}

// Records tells which events the records of topics hold.
type Records struct{ kinds []Definition }

// NewRecords knows the records of all kinds.
func NewRecords() Records { return Records{kinds: Kinds()} }

// EventID is the id of the event that a record holds, nil if it holds none: the header
// ce_id or event_id, else the member id of the value.
func (s Records) EventID(r Record) []byte {
	if r.ID != nil {
		return r.ID
	}
	for i := range s.kinds { // The values made here need no parsing.
		head := s.kinds[i].head
		if head == "" || len(r.Value) <= len(head)+uuidLength || string(r.Value[:len(head)]) != head {
			continue
		}
		if id := r.Value[len(head):]; bytes.IndexByte(id, '"') == uuidLength {
			return id[:uuidLength]
		}
	}
	var body struct { // of no other member: an AuditEvent's type is an object
		ID string `json:"id"`
	}
	if json.Unmarshal(r.Value, &body) != nil {
		return nil
	}
	return []byte(body.ID)
}

// KindOf is the kind of the event that a record holds, "" if it is no kind's. It depends on
// the contents, since kinds may share a topic.
func (s Records) KindOf(r Record) Kind {
	var body recordBody
	_ = json.Unmarshal(r.Value, &body) // The value of a binary CloudEvent may be anything.
	for _, k := range s.kinds {
		if k.wrote(r, body) {
			return k.Name
		}
	}
	return ""
}

// uuidLength is the length of a UUID's text.
const uuidLength = 36
