package tokens

import (
	"bytes"
	"encoding/hex"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The first bytes of values in the server's index key encoding (KeyString), of which
// a token's text is made: a timestamp, the token's version, its type, and what the
// version has of transaction, collection and document.
const (
	keyEnd          = 0x04
	keyNull         = 0x14
	keyNegative     = 0x20 // whole numbers of eight bytes to one
	keyZero         = 0x29
	keyOneByte      = 0x2B // whole numbers of one byte to eight
	keyEightBytes   = 0x32
	keyString       = 0x3C
	keyObject       = 0x46
	keyBinary       = 0x5A
	keyObjectID     = 0x64
	keyFalse        = 0x6E
	keyTrue         = 0x6F
	keyDate         = 0x78
	bytesOfTime     = 8
	bytesOfObjectID = 12
)

// Whole tells whether a token is complete: one that was cut short when it was copied
// has a time too, and the server takes many for a place right before their change. It
// is true for a token that has the beginning and the end of the known forms but holds a
// value in between whose length is not known here.
func Whole(token bson.Raw) bool {
	at, ok := ClusterTime(token)
	if !ok || at.T == 0 {
		return false
	}
	text, _ := Text(token)
	key, err := hex.DecodeString(text)
	if err != nil || key[len(key)-1] != keyEnd {
		return false
	}
	rest := key[timeDigits/2:]
	// A version, which is a small number, a type, and at least one value more.
	if len(rest) < 4 || rest[0] != keyOneByte {
		return false
	}
	for values := 0; ; values++ {
		if rest[0] == keyEnd {
			return len(rest) == 1 && values > 2
		}
		var state keyState
		if rest, state = skipValue(rest); state != keyRead {
			return state == keyUnknown
		}
	}
}

// keyState is how the reading of a value ended.
type keyState int

const (
	keyRead    keyState = iota
	keyCut              // the text ends within the value
	keyUnknown          // a type whose length is not known here
)

// skipValue skips one value, and leaves at least one byte: every value is followed by
// another or by an end.
func skipValue(key []byte) ([]byte, keyState) {
	kind, rest := key[0], key[1:]
	length := 0
	switch {
	case kind == keyNull, kind == keyZero, kind == keyFalse, kind == keyTrue:
	case kind >= keyOneByte && kind <= keyEightBytes:
		length = int(kind-keyOneByte) + 1
	case kind >= keyNegative && kind < keyNegative+8:
		length = keyNegative + 8 - int(kind)
	case kind == typeTimestamp, kind == keyDate:
		length = bytesOfTime
	case kind == keyObjectID:
		length = bytesOfObjectID
	case kind == keyBinary:
		if len(rest) == 0 {
			return nil, keyCut
		}
		if rest[0] == 0xFF { // a long one, whose length follows
			return nil, keyUnknown
		}
		length = 2 + int(rest[0]) // the length, the subtype
	case kind == keyString:
		return skipText(rest)
	case kind == keyObject:
		return skipObject(rest)
	default:
		return nil, keyUnknown
	}
	if length >= len(rest) {
		return nil, keyCut
	}
	if kind >= keyOneByte && kind <= keyEightBytes && rest[length-1]&1 == 1 {
		return nil, keyUnknown // a fraction follows
	}
	return rest[length:], keyRead
}

// skipText skips a string: a zero byte ends it, but for one that is part of it, which
// FF follows.
func skipText(rest []byte) ([]byte, keyState) {
	for {
		zero := bytes.IndexByte(rest, 0)
		if zero < 0 || zero+1 >= len(rest) {
			return nil, keyCut
		}
		rest = rest[zero+1:]
		if rest[0] != 0xFF {
			return rest, keyRead
		}
	}
}

// skipObject skips the fields of an object: each has its type, its name up to a zero
// byte, and its value; a zero byte ends them.
func skipObject(rest []byte) ([]byte, keyState) {
	for len(rest) > 1 {
		if rest[0] == 0 {
			return rest[1:], keyRead
		}
		name := bytes.IndexByte(rest, 0)
		if name < 0 || name+1 >= len(rest) {
			break
		}
		var state keyState
		if rest, state = skipValue(rest[name+1:]); state != keyRead {
			return nil, state
		}
	}
	return nil, keyCut
}
