package daemon

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

func TestPublished(t *testing.T) {
	raw := func(collection string, n int, key any) bson.Raw {
		raw, err := bson.Marshal(bson.D{
			{Key: "_id", Value: token(n)},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: collection}}},
			{Key: "documentKey", Value: bson.D{{Key: "_id", Value: key}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	whole := resumetoken.Published{Coverage: resumetoken.Coverage{Collections: []string{"fhir.a"}}, Token: token(5)}
	half := func(i int) resumetoken.Published {
		p := whole
		p.Slice, p.Of = i, 2
		return p
	}
	run := resumetoken.Published{From: token(3), Token: token(5)}
	for _, test := range []struct {
		name   string
		before []resumetoken.Published
		raw    bson.Raw
		want   bool
	}{
		{"nothing before", nil, raw("a", 5, "k"), false},
		{"before", []resumetoken.Published{whole}, raw("a", 5, "k"), true},
		{"after", []resumetoken.Published{whole}, raw("a", 6, "k"), false},
		{"another collection", []resumetoken.Published{whole}, raw("b", 5, "k"), false},
		{"both slices", []resumetoken.Published{half(0), half(1)}, raw("a", 5, "k"), true},
		{"before a run", []resumetoken.Published{run}, raw("a", 3, "k"), false},
		{"in a run, whatever its collection", []resumetoken.Published{run}, raw("b", 4, "k"), true},
		{"at the end of a run", []resumetoken.Published{run}, raw("a", 5, "k"), true},
		{"after a run", []resumetoken.Published{run}, raw("a", 6, "k"), false},
		{"a key of an unknown type", []resumetoken.Published{half(0), half(1)}, raw("a", 5, bson.D{{Key: "x", Value: 1}}), false},
	} {
		if got := Published(test.before, test.raw); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if one := raw("a", 5, "k"); Published([]resumetoken.Published{half(0)}, one) == Published([]resumetoken.Published{half(1)}, one) {
		t.Error("a change is in both slices or in none")
	}
}
