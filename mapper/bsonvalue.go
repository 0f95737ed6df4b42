package mapper

import (
	"bytes"
	"encoding/binary"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// value is one BSON value inside a change, not decoded. The zero value is a
// field that is absent; BSON null counts as absent too, as in JavaScript.
type value struct {
	typ  bson.Type
	data []byte
}

func documentOf(raw bson.Raw) value { return value{bson.TypeEmbeddedDocument, raw} }

func (v value) absent() bool { return v.typ == 0 }

// text gives a string value's bytes.
func (v value) text() ([]byte, bool) {
	if v.typ != bson.TypeString || len(v.data) < 5 {
		return nil, false
	}
	return v.data[4 : len(v.data)-1], true
}

// millis gives a date's milliseconds since 1970.
func (v value) millis() (int64, bool) {
	if v.typ != bson.TypeDateTime {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(v.data)), true
}

func (v value) timestamp() (bson.Timestamp, bool) {
	if v.typ != bson.TypeTimestamp {
		return bson.Timestamp{}, false
	}
	return bson.Timestamp{I: binary.LittleEndian.Uint32(v.data), T: binary.LittleEndian.Uint32(v.data[4:])}, true
}

func (v value) document() ([]byte, bool) {
	return v.data, v.typ == bson.TypeEmbeddedDocument
}

func (v value) array() ([]byte, bool) {
	return v.data, v.typ == bson.TypeArray
}

// fields are the fields of a document; any other value has none.
func (v value) fields() iter.Seq2[[]byte, value] { return v.members(bson.TypeEmbeddedDocument) }

// items are the elements of an array, with their keys; any other value has none.
func (v value) items() iter.Seq2[[]byte, value] { return v.members(bson.TypeArray) }

func (v value) members(typ bson.Type) iter.Seq2[[]byte, value] {
	return func(yield func([]byte, value) bool) {
		if v.typ != typ {
			return
		}
		for e := walk(v.data); ; {
			if key, element, ok := e.next(); !ok || !yield(key, element) {
				return
			}
		}
	}
}

// elements walks a document's (or array's) elements in one pass, without
// allocating. A malformed document ends the walk early; it never panics.
type elements struct{ rest []byte }

func walk(doc []byte) elements {
	if len(doc) < 5 {
		return elements{}
	}
	n := int(binary.LittleEndian.Uint32(doc))
	if n < 5 || n > len(doc) {
		return elements{}
	}
	return elements{rest: doc[4 : n-1]}
}

// next returns the next element, or false at the end.
func (e *elements) next() (key []byte, v value, ok bool) {
	if len(e.rest) < 2 {
		return nil, value{}, false
	}
	typ := bson.Type(e.rest[0])
	end := bytes.IndexByte(e.rest[1:], 0)
	if end < 0 {
		return nil, value{}, false
	}
	key = e.rest[1 : 1+end]
	data := e.rest[2+end:]
	n, ok := valueLength(typ, data)
	if !ok || n > len(data) {
		e.rest = nil
		return nil, value{}, false
	}
	e.rest = data[n:]
	if typ == bson.TypeNull || typ == bson.TypeUndefined {
		return key, value{}, true
	}
	return key, value{typ: typ, data: data[:n:n]}, true
}

// valueLength is the number of bytes that a value of this type takes (BSON
// specification 1.1).
func valueLength(typ bson.Type, data []byte) (int, bool) {
	prefixed := func(extra, least int) (int, bool) {
		if len(data) < 4 {
			return 0, false
		}
		n := int(int32(binary.LittleEndian.Uint32(data)))
		if n < least {
			return 0, false
		}
		return n + extra, true
	}
	switch typ {
	case bson.TypeNull, bson.TypeUndefined, bson.TypeMinKey, bson.TypeMaxKey:
		return 0, true
	case bson.TypeBoolean:
		return 1, true
	case bson.TypeInt32:
		return 4, true
	case bson.TypeDouble, bson.TypeInt64, bson.TypeDateTime, bson.TypeTimestamp:
		return 8, true
	case bson.TypeObjectID:
		return 12, true
	case bson.TypeDecimal128:
		return 16, true
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		return prefixed(4, 1)
	case bson.TypeEmbeddedDocument, bson.TypeArray, bson.TypeCodeWithScope:
		return prefixed(0, 5)
	case bson.TypeBinary:
		return prefixed(5, 0)
	case bson.TypeDBPointer:
		return prefixed(16, 1)
	case bson.TypeRegex:
		pattern := bytes.IndexByte(data, 0)
		if pattern < 0 {
			return 0, false
		}
		options := bytes.IndexByte(data[pattern+1:], 0)
		return pattern + options + 2, options >= 0
	default:
		return 0, false
	}
}
