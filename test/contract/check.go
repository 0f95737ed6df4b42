package contract

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// Header is a header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is what a record in Kafka has for a consumer.
type Record struct {
	Key, Value []byte
	Headers    []Header
}

// compiled is a message whose schemas are ready for use.
type compiled struct{ value, headers, key *jsonschema.Schema }

// Check tells how a record breaks the contract. The record may be of any kind, or a dead
// letter, or an audit record; what is none of them is an error too.
func Check(r Record) error {
	h := r.hash()
	if _, known := kept.Load(h); known {
		return nil
	}
	all, err := ready()
	if err != nil {
		return err
	}
	name, err := sortOf(r)
	if err != nil {
		return err
	}
	if _, known := all[name]; !known {
		return fmt.Errorf("there is no message %s", name)
	}
	if err = all[name].check(r); err == nil {
		kept.Store(h, nil)
	}
	return err
}

// kept has the hashes of the records that keep the contract. Tests that wait for an event
// read a topic from its beginning many times, and what is written meanwhile depends on how
// long that takes.
//
//nolint:gochecknoglobals // what is true of a record is true in the whole test process.
var kept sync.Map

//nolint:gochecknoglobals // of the hashes in kept.
var seed = maphash.MakeSeed()

// hash is of all parts of the record, each with its length.
func (r Record) hash() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	write := func(part []byte) {
		maphash.WriteComparable(&h, len(part))
		_, _ = h.Write(part) // never fails
	}
	write(r.Key)
	write(r.Value)
	for _, header := range r.Headers {
		write([]byte(header.Key))
		write(header.Value)
	}
	return h.Sum64()
}

//nolint:gochecknoglobals // compiled once for all records of a test process.
var ready = sync.OnceValues(compile)

func compile() (map[string]compiled, error) {
	all, err := messages()
	if err != nil {
		return nil, err
	}
	ready := map[string]compiled{}
	for _, m := range all {
		var c compiled
		for _, part := range []struct {
			of     schema
			schema **jsonschema.Schema
		}{{m.value, &c.value}, {m.headers, &c.headers}, {m.key, &c.key}} {
			if *part.schema, err = compileOne(part.of); err != nil {
				return nil, fmt.Errorf("schema of %s: %w", m.name, err)
			}
		}
		ready[m.name] = c
	}
	return ready, nil
}

func compileOne(s schema) (*jsonschema.Schema, error) {
	s.Dialect = dialect
	text, err := unescaped(s)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("urn:schema", document); err != nil {
		return nil, err
	}
	return compiler.Compile("urn:schema")
}

// sortOf is the name of the message that a record is meant to be.
func sortOf(r Record) (string, error) {
	of := mapper.Record{Value: r.Value}
	for _, h := range r.Headers {
		of.Header(h.Key, h.Value)
	}
	if kind := mapper.NewRecords().KindOf(of); kind != "" {
		return messageName(kind, of.Profile()), nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Value))
	if err != nil {
		return "", fmt.Errorf("the value is no JSON: %w", err)
	}
	object, _ := value.(map[string]any)
	switch {
	case object["reason"] != nil:
		return "dead_letter", nil
	case object["action"] != nil:
		return "audit", nil
	}
	return "", errors.New("the record is no kind's, no dead letter and no audit record")
}

func (c compiled) check(r Record) error {
	if !utf8.Valid(r.Value) {
		return errors.New("the value is no UTF-8")
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Value))
	if err == nil {
		err = c.value.Validate(value)
	}
	if err != nil {
		return fmt.Errorf("value: %w", err)
	}
	headers := map[string]any{}
	for _, h := range r.Headers {
		if _, twice := headers[h.Key]; twice {
			return fmt.Errorf("header %s is there twice", h.Key)
		}
		headers[h.Key] = string(h.Value)
	}
	if err := c.headers.Validate(headers); err != nil {
		return fmt.Errorf("headers: %w", err)
	}
	if err := c.key.Validate(string(r.Key)); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	return nil
}
