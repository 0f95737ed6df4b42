package lookup_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
)

// testLinkedPersons: the links are those at the end of the window, whenever it is asked for.
func testLinkedPersons(t *testing.T, s fhirServer) {
	const end = 1_800_000_000
	at := func(seconds float64) bson.DateTime { return bson.DateTime((end + seconds) * 1000) }
	person := func(uuid, version string, written any, links ...string) bson.D {
		var list bson.A
		for _, l := range links {
			list = append(list, bson.D{{Key: "target", Value: bson.D{{Key: "_uuid", Value: l}}}})
		}
		return bson.D{{Key: "_uuid", Value: uuid}, {Key: "link", Value: list}, {Key: "meta", Value: bson.D{{Key: "versionId", Value: version}, {Key: "lastUpdated", Value: written}}}}
	}
	insert := func(document bson.D) {
		t.Helper()
		if _, err := s.main.Collection("Person_4_0_0").InsertOne(t.Context(), document); err != nil {
			t.Fatal(err)
		}
	}
	version := func(document bson.D) {
		t.Helper()
		if _, err := s.history.Collection("Person_4_0_0_History").InsertOne(t.Context(), bson.D{{Key: "resource", Value: document}}); err != nil {
			t.Fatal(err)
		}
	}
	insert(person("before", "2", at(-10), "Patient/b", "Person/x", "Patient/a"))
	insert(person("long before", "2", at(-1000), "Patient/a"))
	insert(person("linked since", "3", at(0), "Patient/a", "Patient/b"))
	version(person("linked since", "1", at(-20)))
	version(person("linked since", "2", at(-0.001), "Patient/b"))
	version(person("linked since", "3", at(0), "Patient/a", "Patient/b"))
	insert(person("made since", "1", at(5), "Patient/a"))
	insert(person("of a lost history", "7", at(5), "Patient/a"))
	insert(person("of a history elsewhere", "7", at(5), "Patient/a"))
	elsewhere := bson.D{{Key: "_uuid", Value: "of a history elsewhere"}, {Key: "meta", Value: bson.D{{Key: "versionId", Value: "6"}, {Key: "lastUpdated", Value: at(-20)}}}}
	if _, err := s.history.Collection("Person_4_0_0_History").InsertOne(t.Context(), bson.D{{Key: "resource", Value: elsewhere}, {Key: "_ref", Value: "6.json"}}); err != nil {
		t.Fatal(err)
	}
	insert(person("of another", "1", at(-10), "Patient/c"))
	insert(person("without a time", "1", "no date", "Patient/a"))
	insert(bson.D{{Key: "_uuid", Value: 7}, {Key: "link", Value: bson.D{{Key: "target", Value: bson.D{{Key: "_uuid", Value: "Patient/a"}}}}}})

	got, lasting := map[string][]string{}, []string(nil)
	linked := lookup.NewLinkedPersons(s.main, s.history, time.Minute)
	err := linked.Find(t.Context(), []string{"a", "b"}, end, bson.Timestamp{}, func(p lookup.LinkedPerson) {
		got[p.UUID] = p.Patients
		if p.Lasting {
			lasting = append(lasting, p.UUID)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"before": {"b", "a"}, "long before": {"a"}, "linked since": {"b"}, "of a lost history": {"a"}, "of a history elsewhere": {"a"}, "without a time": {"a"},
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
	slices.Sort(lasting)
	if !slices.Equal(lasting, []string{"long before", "without a time"}) {
		t.Errorf("lasting are %v", lasting)
	}
}
