package mapper

import "time"

// Years that the wire's fixed-width dates can hold.
const (
	minMillis = -62135596800000 // 0001-01-01T00:00:00Z
	maxMillis = 253402300799999 // 9999-12-31T23:59:59.999Z
)

func inRange(ms int64) bool { return ms >= minMillis && ms <= maxMillis }

// appendDay appends the UTC day of ms, YYYY-MM-DD.
func appendDay(dst []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(dst, time.DateOnly)
}

// appendInstant appends ms as JavaScript's toISOString does: UTC, three digits
// of milliseconds, Z.
func appendInstant(dst []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}
