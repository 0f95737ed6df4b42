// Package tokens knows the form of MongoDB's resume tokens: their text, their order, and
// the time that they begin with. MongoDB calls the form internal, so every question about
// a token can have the answer that its form is unknown.
package tokens

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// textKey is the member of a token that holds its text.
const textKey = "_data"

// timeDigits is how many characters of a token's text hold its cluster time: one
// byte of type and eight of time, in hexadecimal.
const timeDigits = 2 * (1 + 8)

// typeTimestamp is the first byte of a token's text: the type of its first
// element, a timestamp, in the server's index key encoding. It has been the same
// since MongoDB 4.2.
const typeTimestamp = 0x82

// Text gives the text of a token, in hexadecimal digits. It is false for a token of an
// unknown form, such as those of servers before 4.2.
func Text(token bson.Raw) (string, bool) {
	return token.Lookup(textKey).StringValueOK()
}

// Is tells whether a document is a token of any form: the tokens of all servers have this
// member.
func Is(document bson.Raw) bool {
	_, err := document.LookupErr(textKey)
	return err == nil
}

// FromText makes the token of a text.
func FromText(text string) (bson.Raw, error) {
	return bson.Marshal(bson.D{{Key: textKey, Value: text}})
}

// After tells whether token a is later in the oplog than token b. The server
// builds tokens so that their text sorts in oplog order (mongos merges shards by
// it). It is false for tokens of an unknown form.
//
// It is used where two readings of the oplog meet: when the pipeline has changed, when a
// span before a position is read once more, and after a hand-over.
func After(a, b bson.Raw) bool {
	x, okX := Text(a)
	y, okY := Text(b)
	return okX && okY && x > y
}

// ClusterTime reads the oplog time out of a token. It is false for a token of an
// unknown form; the caller needs another source of the time or has to do without.
func ClusterTime(token bson.Raw) (bson.Timestamp, bool) {
	text, ok := Text(token)
	if !ok || len(text) < timeDigits {
		return bson.Timestamp{}, false
	}
	var key [timeDigits / 2]byte
	if _, err := hex.Decode(key[:], []byte(text[:timeDigits])); err != nil || key[0] != typeTimestamp {
		return bson.Timestamp{}, false
	}
	return bson.Timestamp{T: binary.BigEndian.Uint32(key[1:5]), I: binary.BigEndian.Uint32(key[5:9])}, true
}

// TextOfTime is the text with which the texts of all tokens of a time begin.
func TextOfTime(t bson.Timestamp) string {
	return fmt.Sprintf("%02X%08X%08X", typeTimestamp, t.T, t.I)
}

// TimeOfText is the part of a token's text that tells its time, in the form of TextOfTime;
// the whole text where that is shorter.
func TimeOfText(text string) string { return text[:min(timeDigits, len(text))] }
