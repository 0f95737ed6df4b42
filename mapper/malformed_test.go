package mapper_test

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// TestMalformedChanges cuts changes short at every byte and spoils every byte: no
// panic, and what comes out holds its promises. No server sends such a thing.
func TestMalformedChanges(t *testing.T) {
	for _, name := range []string{"consent-source-type", "export-update-status", "audit-event-patient"} {
		raw := readChange(t, name)
		for i := range raw {
			check(t, raw[:i], mapper.Facts{})
			for _, b := range []byte{0, 0x7f, 0xff} {
				spoilt := append(bson.Raw(nil), raw...)
				spoilt[i] = b
				check(t, spoilt, mapper.Facts{})
			}
		}
	}
}

// TestAllTypesAreStepped puts a value of every BSON type before the fields that are
// read: the walk must know how long each is.
func TestAllTypesAreStepped(t *testing.T) {
	var others bson.D
	for _, v := range []any{
		1.5, "text",
		bson.D{{Key: "a", Value: 1}},
		bson.A{1, "b"},
		bson.Binary{Subtype: 0x80, Data: []byte{1, 2, 3}},
		bson.Binary{Subtype: 2, Data: []byte{1}},
		bson.Undefined{},
		bson.ObjectID{1},
		true, bson.DateTime(1), nil,
		bson.Regex{Pattern: "p", Options: "i"},
		bson.Regex{},
		bson.DBPointer{DB: "d.c", Pointer: bson.ObjectID{2}},
		bson.JavaScript("js"), bson.Symbol("s"),
		bson.CodeWithScope{Code: "js", Scope: bson.D{{Key: "x", Value: 1}}},
		int32(7),
		bson.Timestamp{T: 1, I: 2},
		int64(8),
		bson.NewDecimal128(1, 2),
		bson.MinKey{},
		bson.MaxKey{},
	} {
		others = append(others, bson.E{Key: "other", Value: v})
	}
	prefix, err := bson.Marshal(others)
	if err != nil {
		t.Fatal(err)
	}
	plain := consent{}.raw(t)
	// One document of both: length, the elements of each, the zero at the end.
	joined := append([]byte(nil), prefix[4:len(prefix)-1]...)
	joined = append(joined, plain[4:]...)
	n := uint32(len(joined) + 4)
	raw := append(bson.Raw{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, joined...)
	if err := raw.Validate(); err != nil {
		t.Fatal(err)
	}
	want, got := mapOne(t, defaults(), plain, mapper.Facts{}), mapOne(t, defaults(), raw, mapper.Facts{})
	sameEvents(t, want.Events, got.Events)
	if len(got.Events) != 1 {
		t.Errorf("%d events", len(got.Events))
	}
}
