package watcher

import (
	"crypto/md5" //nolint:gosec // it is the server's hash of an index key, no secret rests on it
	"encoding/binary"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Slice is one of several streams' shares of the same collections: the documents
// whose key's hash falls to it. A document stays in its slice, so its changes keep
// their order.
type Slice struct {
	// Index is the number of this slice, from 0, and Of how many there are; 0 and 1
	// mean that there is only one.
	Index, Of int
}

// match has the server choose the slice's changes. The hash is a signed number of 64 bits, and
// its rest after $mod has its sign. So the rest's absolute value is the index, from 0 to Of-1.
// The hash's own absolute value would not do: the smallest number has none.
func (s Slice) match() bson.D { return s.Filter("$documentKey._id") }

// Filter matches the documents of the slice, whose key is at path; nil if there is
// only one slice.
func (s Slice) Filter(path string) bson.D {
	if s.Of <= 1 {
		return nil
	}
	hash := bson.D{{Key: "$toHashedIndexKey", Value: path}}
	rest := bson.D{{Key: "$abs", Value: bson.D{{Key: "$mod", Value: bson.A{hash, int32(s.Of)}}}}}
	return bson.D{{Key: "$expr", Value: bson.D{{Key: "$eq", Value: bson.A{rest, int32(s.Index)}}}}}
}

// explain adds to a server's refusal of the pipeline what most likely is behind it.
func (s Slice) explain(e *Error) *Error {
	if e.Class == Unsupported && s.Of > 1 {
		return &Error{Class: Unsupported, Err: e.Err, Hint: "the server cannot choose changes by the hash of their key ($toHashedIndexKey in $match), which slices need: " +
			"take slices out of streams, or use a MongoDB that can (the daemon is tested with 6.0 and newer)"}
	}
	return e
}

// Holds tells whether the change of a document falls to the slice, as the server
// decides it. It goes by the change event's documentKey._id. ok is false for a key
// of a type whose hash is not known here.
func (s Slice) Holds(change bson.Raw) (holds, ok bool) {
	if s.Of <= 1 {
		return true, true
	}
	hash, ok := hashedIndexKey(change.Lookup("documentKey", "_id"))
	if !ok {
		return false, false
	}
	rest := hash % int64(s.Of)
	if rest < 0 {
		rest = -rest
	}
	return rest == int64(s.Index), true
}

// hashedIndexKey is what the server's $toHashedIndexKey gives for a key: the first
// eight bytes of the MD5 of a seed, the type's place in the sort order and the
// value. Numbers are hashed as whole numbers, whatever their type.
func hashedIndexKey(key bson.RawValue) (int64, bool) {
	var in []byte
	in = binary.LittleEndian.AppendUint32(in, 0) // the seed
	sortOrder := func(n uint32) { in = binary.LittleEndian.AppendUint32(in, n) }
	switch key.Type {
	case bson.TypeObjectID:
		sortOrder(35)
		in = append(in, key.Value...)
	case bson.TypeString:
		sortOrder(15)
		in = append(in, key.Value...)
	case bson.TypeBinary:
		sortOrder(30)
		in = append(in, key.Value...)
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble:
		sortOrder(10)
		in = binary.LittleEndian.AppendUint64(in, uint64(wholeNumber(key)))
	case bson.TypeDateTime:
		sortOrder(45)
		in = append(in, key.Value...)
	default:
		return 0, false
	}
	sum := md5.Sum(in) //nolint:gosec // see the import
	return int64(binary.LittleEndian.Uint64(sum[:8])), true
}

// wholeNumber cuts a number to a whole one as the server does.
func wholeNumber(v bson.RawValue) int64 {
	if n, ok := v.Int32OK(); ok {
		return int64(n)
	}
	if n, ok := v.Int64OK(); ok {
		return n
	}
	f, _ := v.DoubleOK()
	switch {
	case math.IsNaN(f):
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}
