package lookup_test

import (
	"maps"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
)

// The persons of testdata/changes.jsonl.
const (
	clientPerson = "e3b35308-0ad4-591b-b14f-0c3e15f45713" // id per-1, owner acme
	masterPerson = "7949b297-5cb3-56bf-926b-6100dd9793b5" // id master-1, owner bwell
)

func testRecordedPersons(t *testing.T, s fhirServer) {
	persons := lookup.NewPersons(s.main, lookup.PersonOptions{CacheSize: 10})
	find := func() map[string]lookup.Person {
		got, err := persons.Find(t.Context(), []string{clientPerson, "per-1", masterPerson}, bson.Timestamp{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	known := lookup.Person{BwellPersonID: masterPerson, ManagingOrganization: "org-1"}
	half := lookup.Person{ManagingOrganization: "org-1"}
	// What is known after each write of a Person; the master itself has neither.
	want := []lookup.Person{half, known, known, known, known, half, {}}
	for _, c := range recorded(t) {
		s.apply(t, c)
		if c.NS.Coll != "Person_4_0_0" {
			continue
		}
		if c.OperationType == "delete" {
			persons.Forget()
		} else {
			persons.Changed(c.text("_uuid"), c.text("id"), linkTargets(c.FullDocument))
		}
		all := map[string]lookup.Person{clientPerson: want[0], "per-1": want[0], masterPerson: {}}
		if got := find(); !maps.Equal(got, all) {
			t.Errorf("after %s of %s: got %+v, want %+v", c.OperationType, c.text("id"), got, all)
		}
		before := persons.Stats().Cached
		find()
		if cached := persons.Stats().Cached - before; (cached == 2) != (want[0] == known) {
			t.Errorf("after %s of %s: %d answers from the cache", c.OperationType, c.text("id"), cached)
		}
		want = want[1:]
	}
	if len(want) != 0 {
		t.Errorf("%d writes of Persons are missing", len(want))
	}
}

func linkTargets(person bson.Raw) (targets []string) {
	links, ok := person.Lookup("link").ArrayOK()
	if !ok {
		return nil
	}
	values, err := links.Values()
	if err != nil {
		return nil
	}
	for _, l := range values {
		targets = append(targets, l.Document().Lookup("target", "_uuid").StringValue())
	}
	return targets
}

func personDocument(uuid, owner string, target any) bson.D {
	return bson.D{
		{Key: "_uuid", Value: uuid},
		{Key: "meta", Value: bson.D{{Key: "security", Value: bson.A{
			bson.D{{Key: "system", Value: "https://www.icanbwell.com/owner"}, {Key: "code", Value: owner}},
		}}}},
		{Key: "link", Value: bson.A{bson.D{{Key: "target", Value: bson.D{{Key: "_uuid", Value: target}}}}}},
	}
}

func testSeveralMasters(t *testing.T, s fhirServer) {
	for _, p := range []bson.D{
		personDocument("c", "bwell", "Person/"+clientPerson),
		personDocument("b", "bwell", "Person/"+clientPerson),
		personDocument("a", "acme", "Person/"+clientPerson),
	} {
		if _, err := s.main.Collection("Person_4_0_0").InsertOne(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	got, err := lookup.NewPersons(s.main, lookup.PersonOptions{}).Find(t.Context(), []string{clientPerson}, bson.Timestamp{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (lookup.Person{BwellPersonID: "b"}); got[clientPerson] != want {
		t.Errorf("got %+v, want %+v", got[clientPerson], want)
	}
}

func testMalformedPersons(t *testing.T, s fhirServer) {
	for _, p := range []bson.D{
		{{Key: "_uuid", Value: clientPerson}, {Key: "_sourceId", Value: 7}, {Key: "managingOrganization", Value: bson.A{"org-1"}}},
		{{Key: "_uuid", Value: "m"}, {Key: "meta", Value: "bwell"}, {Key: "link", Value: bson.D{{Key: "target", Value: bson.D{{Key: "_uuid", Value: "Person/" + clientPerson}}}}}},
	} {
		if _, err := s.main.Collection("Person_4_0_0").InsertOne(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	got, err := lookup.NewPersons(s.main, lookup.PersonOptions{CacheSize: 1}).Find(t.Context(), []string{clientPerson}, bson.Timestamp{})
	if err != nil {
		t.Fatal(err)
	}
	if got[clientPerson] != (lookup.Person{}) {
		t.Errorf("got %+v", got[clientPerson])
	}
}
