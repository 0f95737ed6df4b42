package mapper

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestNamespaceIsMadeOfTheProjectsName(t *testing.T) {
	if want := uuid.NewSHA1(uuid.NameSpaceDNS, []byte("fhir-cdc.events")); namespace != string(want[:]) {
		t.Errorf("namespace %x, want %x", namespace, want)
	}
}

func TestEventIDIsUUIDVersion5(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var scratch []byte
	for range 1000 {
		var parts [][]byte
		var name strings.Builder
		for range random.IntN(6) {
			part := randomBytes(random, 300)
			parts = append(parts, part)
			name.WriteByte(0)
			name.Write(part)
		}
		var got []byte
		got, scratch = eventID([]byte("before "), scratch, parts...)
		want := uuid.NewSHA1(uuid.UUID([]byte(namespace)), []byte(name.String()))
		if string(got) != "before "+want.String() {
			t.Fatalf("id of %q is %s, want %s", name.String(), got, want)
		}
		if id := uuid.MustParse(string(got[len("before "):])); id.Version() != 5 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%s: version %d, variant %v", id, id.Version(), id.Variant())
		}
	}
}

func TestEventIDSeparatesParts(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"b", "a"}, {"", "ab"}, {"ab", ""}} {
		var raw [][]byte
		for _, p := range parts {
			raw = append(raw, []byte(p))
		}
		id, _ := eventID(nil, nil, raw...)
		if other, ok := seen[string(id)]; ok {
			t.Errorf("%q and %q have the same id", parts, other)
		}
		seen[string(id)] = parts
	}
}

func randomBytes(random *rand.Rand, limit int) []byte {
	b := make([]byte, random.IntN(limit))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}
