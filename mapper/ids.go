package mapper

import (
	"crypto/sha1" //nolint:gosec // UUID version 5 is defined with SHA-1; nothing secret depends on it.
	"encoding/hex"
)

// namespace is the UUID under which all event ids are made: 03eceb60-74a8-5244-b8c7-cd1591580cbb, the UUIDv5
// of the DNS name fhir-cdc.events. Changing it changes every id: consumers would
// take replayed events for new ones.
const namespace = "\x03\xec\xeb\x60\x74\xa8\x52\x44\xb8\xc7\xcd\x15\x91\x58\x0c\xbb"

// eventID writes the id of an event to dst. The name is the parts, each after a
// zero byte, so that parts do not run into each other: ids and names hold no zero
// byte, and the one part that may, a time, is the last and of fixed length.
//
// An id is made of values that exist outside the oplog too (resource, version, time), so
// that the live stream, a replay and a repair from the collections agree.
func eventID(dst []byte, scratch []byte, parts ...[]byte) ([]byte, []byte) {
	id, scratch := uuidOf(scratch, parts...)
	return appendUUID(dst, id[:]), scratch
}

// uuidOf is the UUID of version 5 of such a name.
func uuidOf(scratch []byte, parts ...[]byte) (id [16]byte, _ []byte) {
	scratch = append(scratch[:0], namespace...)
	for _, p := range parts {
		scratch = append(scratch, 0)
		scratch = append(scratch, p...)
	}
	sum := sha1.Sum(scratch) //nolint:gosec // see the import.
	sum[6] = sum[6]&0x0f | 0x50
	sum[8] = sum[8]&0x3f | 0x80
	return [16]byte(sum[:16]), scratch
}

func appendUUID(dst, u []byte) []byte {
	dst = hex.AppendEncode(dst, u[0:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, u[4:6])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, u[6:8])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, u[8:10])
	dst = append(dst, '-')
	return hex.AppendEncode(dst, u[10:16])
}
