package contract

import (
	"bytes"
	"encoding/json"
)

// schema is a JSON Schema. It has only keywords that mean the same in draft 2020-12 and in
// draft 7, because AsyncAPI's own schemas are draft 7.
type schema struct {
	Dialect     string   `json:"$schema,omitempty"`
	ID          string   `json:"$id,omitempty"`
	Title       string   `json:"title,omitempty"`
	Description string   `json:"description,omitempty"`
	Type        any      `json:"type,omitempty"` // a name, or a list of names
	Const       any      `json:"const,omitempty"`
	Enum        []string `json:"enum,omitempty"`
	Format      string   `json:"format,omitempty"`
	Pattern     string   `json:"pattern,omitempty"`
	MinLength   int      `json:"minLength,omitempty"`
	Minimum     *int     `json:"minimum,omitempty"`
	Maximum     *int     `json:"maximum,omitempty"`
	Properties  members  `json:"properties,omitempty"`
	Required    []string `json:"required,omitempty"`
	// Additional is false for objects that may have no other member.
	Additional *bool   `json:"additionalProperties,omitempty"`
	Items      *schema `json:"items,omitempty"`
	// MinProperties and MaxProperties count the members of an object.
	MinProperties int `json:"minProperties,omitempty"`
	MaxProperties int `json:"maxProperties,omitempty"`
	MinItems      int `json:"minItems,omitempty"`
	MaxItems      int `json:"maxItems,omitempty"`
	// UniqueItems is true for lists that have nothing twice.
	UniqueItems bool `json:"uniqueItems,omitempty"`
}

// member is a member of an object.
type member struct {
	name     string
	schema   schema
	optional bool
}

// members keep their order in the file, which is the order on the wire.
type members []member

// MarshalJSON writes the object of the members' schemas.
func (m members) MarshalJSON() ([]byte, error) {
	var o ordered
	for _, one := range m {
		o = append(o, field{one.name, one.schema})
	}
	return o.MarshalJSON()
}

// ordered is a JSON object whose members keep their order.
type ordered []field

type field struct {
	name  string
	value any
}

// MarshalJSON writes the object.
func (o ordered) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		value, err := unescaped(f.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// unescaped is JSON that keeps < and > as they are.
func unescaped(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// object has exactly these members.
func object(list ...member) schema {
	closed := false
	s := schema{Type: "object", Properties: list, Additional: &closed}
	for _, m := range list {
		if !m.optional {
			s.Required = append(s.Required, m.name)
		}
	}
	return s
}

func must(name string, s schema) member { return member{name: name, schema: s} }
func may(name string, s schema) member  { return member{name: name, schema: s, optional: true} }

// one is a list of one.
func one(item schema) schema { return schema{Type: "array", Items: &item, MinItems: 1, MaxItems: 1} }

// list is a list of one or more, each once.
func list(item schema) schema {
	return schema{Type: "array", Items: &item, MinItems: 1, UniqueItems: true}
}

func constant(v any) schema { return schema{Const: v} }

// oneOf is one of some texts.
func oneOf(texts ...string) schema { return schema{Type: "string", Enum: texts} }

// text is any text but the empty one.
func text() schema { return schema{Type: "string", MinLength: 1} }

func anyText() schema { return schema{Type: "string"} }

// matching is a text of a form.
func matching(pattern string) schema { return schema{Type: "string", Pattern: pattern} }

// anything is an object whose members are not told.
func anything() schema { return schema{Type: "object"} }

// count is a number of 32 bits without a sign.
func count() schema {
	least, most := 0, 1<<32-1
	return schema{Type: "integer", Minimum: &least, Maximum: &most}
}

func (s schema) says(description string) schema {
	s.Description = description
	return s
}

func (s schema) orNull() schema {
	s.Type = []string{"string", "null"}
	return s
}

// eventID is a UUID of version 5.
func eventID() schema {
	s := matching(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	s.Format = "uuid"
	return s
}

// day is a date in UTC.
func day() schema {
	s := matching(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	s.Format = "date"
	return s
}

// instant is a time in UTC, with milliseconds.
func instant() schema {
	s := matching(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$`)
	s.Format = "date-time"
	return s
}
