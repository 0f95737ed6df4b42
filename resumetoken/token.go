package resumetoken

import (
	"encoding/binary"
	"encoding/hex"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// tokenTime is how many characters of a token's text hold its cluster time: one
// byte of type and eight of time, in hexadecimal.
const tokenTime = 2 * (1 + 8)

// typeTimestamp is the first byte of a token's text: the type of its first
// element, a timestamp, in the server's index key encoding. It has been the same
// since MongoDB 4.2.
const typeTimestamp = 0x82

// Clone copies a token. The driver hands out slices of the server's reply, and
// one token of 60 bytes would keep a reply of 16 MB alive.
func Clone(token bson.Raw) bson.Raw {
	if token == nil {
		return nil
	}
	return append(make(bson.Raw, 0, len(token)), token...)
}

// ClusterTime reads the oplog time out of a token that the server made. The
// form is the server's own affair, so false means only that this one is not
// known; whoever asks needs another source of the time or has to do without.
func ClusterTime(token bson.Raw) (bson.Timestamp, bool) {
	data, err := token.LookupErr("_data")
	if err != nil {
		return bson.Timestamp{}, false
	}
	text, ok := data.StringValueOK()
	if !ok || len(text) < tokenTime {
		return bson.Timestamp{}, false
	}
	var key [tokenTime / 2]byte
	if _, err := hex.Decode(key[:], []byte(text[:tokenTime])); err != nil || key[0] != typeTimestamp {
		return bson.Timestamp{}, false
	}
	return bson.Timestamp{T: binary.BigEndian.Uint32(key[1:5]), I: binary.BigEndian.Uint32(key[5:9])}, true
}
