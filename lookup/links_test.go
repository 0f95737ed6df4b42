package lookup_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
)

// answered is an answer as tests compare it: the references of the links before, "missing" if
// that version is.
func answered(t *testing.T, a lookup.Answer) string {
	t.Helper()
	text := a.RequestID + " " + a.URL
	if a.Answered {
		text += " answered"
	}
	if a.Before == nil {
		return text + ": missing"
	}
	values, err := a.Before.Values()
	if err != nil {
		t.Fatal(err)
	}
	var references []string
	for _, v := range values {
		references = append(references, v.Document().Lookup("target", "reference").StringValue())
	}
	return text + ": " + strings.Join(references, " ")
}

// before asks for the links before each version, of what tells who wrote it only by "/admin".
func before(t *testing.T, s fhirServer, versions ...lookup.Version) (all []string, queries int64) {
	t.Helper()
	for i := range versions {
		versions[i].Links = true
		versions[i].Enough = func(a lookup.Answer) bool { return strings.HasPrefix(a.URL, "/") || a.Before != nil }
	}
	r := lookup.NewRequestIDs(s.history, lookup.RequestIDOptions{})
	answers, err := r.Look(t.Context(), versions)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range answers {
		all = append(all, answered(t, a))
	}
	return all, r.Stats().Queries
}

// Who changed the links of the recorded server's Persons is told, and of changes by /admin the
// links before; of the others nobody asks for these.
func testRecordedLinks(t *testing.T, s fhirServer) {
	var versions []lookup.Version
	for _, c := range recorded(t) {
		if s.apply(t, c); c.NS.DB == "fhir" && strings.HasPrefix(c.NS.Coll, "Person") && c.OperationType != "delete" {
			versions = append(versions, c.version())
		}
	}
	got, queries := before(t, s, versions...)
	const person, master = "4_0_0/Person/e3b35308-0ad4-591b-b14f-0c3e15f45713", "4_0_0/Person/7949b297-5cb3-56bf-926b-6100dd9793b5"
	want := []string{
		"req-a04-person-client-create /4_0_0/Person/per-1: missing",
		"req-a05-person-master-merge /4_0_0/Person/master-1: missing",
		"req-a09-person-update /4_0_0/Person/per-1 answered: missing",
		"1f4f8464-ddab-417b-a655-ada12159299f " + person + ": Patient/pat-1",
		"4e7b98a4-c5ef-4bb3-bd12-97d32a3900d8 " + person + ": Patient/pat-1 Patient/5eaab6fb-8695-5fac-83cb-0fe474afe226",
		"eb196e9f-59e0-4206-b9d2-d37f868a9bbb " + master + ": Person/e3b35308-0ad4-591b-b14f-0c3e15f45713",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if queries != 2 {
		t.Errorf("%d queries", queries)
	}
}

// A Person that was deleted and created again has each number twice; the version before is of the
// same life, whichever clock wrote it, and the same when a life has come after it of which no
// delete is known. One whose history is in object storage tells no links.
func testLinksOfLives(t *testing.T, s fhirServer) {
	at := func(second int64) bson.DateTime { return bson.DateTime(1795395943000 + 1000*second) }
	history := func(uuid, number string, second int64, method, link string) bson.D {
		resource := bson.D{{Key: "_uuid", Value: uuid}, {Key: "meta", Value: bson.D{{Key: "versionId", Value: number}, {Key: "lastUpdated", Value: at(second)}}}}
		if link != "" {
			resource = append(resource, bson.E{Key: "link", Value: bson.A{bson.D{{Key: "target", Value: bson.D{{Key: "reference", Value: link}}}}}})
		}
		d := bson.D{{Key: "resource", Value: resource}}
		if method != "" {
			d = append(d, bson.E{Key: "request", Value: bson.D{{Key: "method", Value: method}}})
		}
		return d
	}
	documents := []bson.D{
		history("twice", "1", 1, "PUT", "Patient/first"), history("twice", "2", 2, "DELETE", ""),
		history("twice", "1", 3, "PUT", "Patient/second"), history("twice", "2", 5, "DELETE", ""),
		history("lost", "1", 1, "PUT", "Patient/first"), history("lost", "1", 2, "DELETE", ""),
		history("clock", "1", 5, "PUT", "Patient/later"),
		history("program", "1", 1, "PUT", "Patient/first"), history("program", "1", 5, "PUT", "Patient/second"),
		history("stored", "1", 1, "", ""),
		history("none", "1", 1, "PUT", ""),
	}
	if _, err := s.history.Collection("Person_4_0_0_History").InsertMany(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
	version := func(uuid, number string, second int64) lookup.Version {
		return lookup.Version{Collection: "Person_4_0_0", UUID: uuid, VersionID: number, LastUpdated: time.UnixMilli(int64(at(second)))}
	}
	got, queries := before(t, s,
		version("twice", "2", 2), version("twice", "2", 4), version("lost", "2", 3), version("clock", "2", 4),
		version("program", "2", 2), version("program", "2", 6),
		version("stored", "2", 2), version("none", "2", 2), version("none", "1", 1), version("none", "x", 1))
	want := []string{" : Patient/first", " : Patient/second", " : missing", " : Patient/later", " : Patient/first", " : Patient/second", " : missing", " : ", " : missing", " : missing"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if queries != 2 {
		t.Errorf("%d queries", queries)
	}
}

// While only the version's own history is missing, the links before, for which all versions of the
// Person are read, are asked for once; and once more when it has come.
func testLinksFoundBefore(t *testing.T, s fhirServer) {
	collection := s.history.Collection("Person_4_0_0_History")
	write := func(number string, at time.Time, request bson.D) {
		t.Helper()
		_, err := collection.InsertOne(t.Context(), bson.D{
			{Key: "resource", Value: bson.D{
				{Key: "_uuid", Value: "u"},
				{Key: "meta", Value: bson.D{{Key: "versionId", Value: number}, {Key: "lastUpdated", Value: bson.NewDateTimeFromTime(at)}}},
				{Key: "link", Value: bson.A{bson.D{{Key: "target", Value: bson.D{{Key: "reference", Value: "Patient/" + number}}}}}},
			}},
			{Key: "request", Value: request},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	first := time.UnixMilli(1795395943000)
	version := lookup.Version{
		Collection: "Person_4_0_0", UUID: "u", VersionID: "2", LastUpdated: first.Add(time.Second), Links: true,
		Enough: func(a lookup.Answer) bool { return a.RequestID != "" && a.Before != nil },
	}
	r := lookup.NewRequestIDs(s.history, lookup.RequestIDOptions{})
	write("1", first, bson.D{{Key: "method", Value: "PUT"}})
	for n, want := range []struct {
		answer  string
		queries int64
	}{{" : Patient/1", 2}, {" : Patient/1", 3}, {"req 4_0_0/Person/u: Patient/1", 5}} {
		if n == 2 {
			write("2", version.LastUpdated, bson.D{{Key: "id", Value: "req"}, {Key: "method", Value: "POST"}, {Key: "url", Value: "4_0_0/Person/u"}})
		}
		answers, err := r.Look(t.Context(), []lookup.Version{version})
		if err != nil {
			t.Fatal(err)
		}
		version.LinksBefore = answers[0].Before
		if got := answered(t, answers[0]); got != want.answer || r.Stats().Queries != want.queries || answers[0].Complete != (n == 2) {
			t.Errorf("look %d: %q, complete %v, after %d queries; want %v", n, got, answers[0].Complete, r.Stats().Queries, want)
		}
	}
}
