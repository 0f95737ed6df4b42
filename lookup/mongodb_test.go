package lookup_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

func TestOnMongoDB(t *testing.T) {
	client := connect(t, services.MongoDBForTest(t, services.MongoDBOptions{}).URI)
	for name, test := range map[string]func(*testing.T, fhirServer){
		"request ids of the recorded server": testRecordedRequestIDs,
		"history comes during the wait":      testLateHistory,
		"the context ends during the wait":   testCancelledWait,
		"more versions than one query takes": testManyVersions,
		"links of the recorded server":       testRecordedLinks,
		"links of persons that came again":   testLinksOfLives,
		"links that a look has found":        testLinksFoundBefore,
		"persons follow the recorded server": testRecordedPersons,
		"the smallest of several masters":    testSeveralMasters,
		"persons of other types":             testMalformedPersons,
		"persons by links":                   testLinkedPersons,
	} {
		t.Run(name, func(t *testing.T) { test(t, newFHIRServer(t, client)) })
	}
}

func testRecordedRequestIDs(t *testing.T, s fhirServer) {
	want := []string{ // of the main writes, in their order
		"req-a04-person-client-create",
		"req-a05-person-master-merge",
		"req-a09-person-update",
		"req-b01-consent-put-create", // con-1, version 1
		"req-b02-consent-put-update", // con-1, version 2
		"req-b13-consent-patch",      // con-1, version 3; req-b15 deleted it, also version 3
		"req-b17-consent-recreate",   // con-1, version 1 again
		"req-b19a-consent-same-id-acme",
		"req-b19b-consent-same-id-beta",
		"58af4aef-567c-4f1d-9529-233b6f8a878d", // the client sent no X-Request-ID
		"req-b31-consent-concurrent-create-1",
		"req-b31-consent-concurrent-create-3",
		"req-b31-consent-concurrent-create-2",
		"req-b31-consent-concurrent-create-0",
		"1f4f8464-ddab-417b-a655-ada12159299f", // /admin: the history's id is the client's
		"4e7b98a4-c5ef-4bb3-bd12-97d32a3900d8",
		"eb196e9f-59e0-4206-b9d2-d37f868a9bbb",
	}
	var versions []lookup.Version
	for _, c := range recorded(t) {
		s.apply(t, c)
		if c.NS.DB == "fhir" && c.OperationType != "delete" {
			versions = append(versions, c.version())
		}
	}
	r := lookup.NewRequestIDs(s.history, lookup.RequestIDOptions{Wait: time.Minute})
	answers, err := r.Find(t.Context(), versions)
	if err != nil {
		t.Fatal(err)
	}
	got := idsOf(answers)
	if !slices.Equal(got, want) {
		t.Errorf("got %q,\nwant %q", got, want)
	}
	if got, want := r.Stats(), (lookup.RequestIDStats{Queries: 2, Found: int64(len(versions))}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

// consents returns the recorded changes of main Consents and of their history.
func consents(t *testing.T) (main, history []change) {
	t.Helper()
	for _, c := range recorded(t) {
		switch c.NS.Coll {
		case "Consent_4_0_0":
			main = append(main, c)
		case "Consent_4_0_0_History":
			history = append(history, c)
		}
	}
	return main, history
}

func testLateHistory(t *testing.T, s fhirServer) {
	main, history := consents(t)
	version := main[0].version()
	pauses := 0
	r := lookup.NewRequestIDs(s.history, lookup.RequestIDOptions{
		Wait: time.Hour,
		After: func(time.Duration) <-chan time.Time {
			if pauses++; pauses == 3 {
				s.apply(t, history[0])
			}
			over := make(chan time.Time)
			close(over)
			return over
		},
	})
	answers, err := r.Find(t.Context(), []lookup.Version{version})
	if err != nil {
		t.Fatal(err)
	}
	got := idsOf(answers)
	if want := []string{"req-b01-consent-put-create"}; !slices.Equal(got, want) || pauses != 3 {
		t.Errorf("got %q after %d pauses, want %q after 3", got, pauses, want)
	}
}

func testCancelledWait(t *testing.T, s fhirServer) {
	main, _ := consents(t)
	version := main[0].version()
	ctx, cancel := context.WithCancel(t.Context())
	r := lookup.NewRequestIDs(s.history, lookup.RequestIDOptions{
		Wait:  time.Hour,
		After: func(time.Duration) <-chan time.Time { cancel(); return nil },
	})
	if _, err := r.Find(ctx, []lookup.Version{version}); !errors.Is(err, context.Canceled) {
		t.Errorf("during the wait: %v", err)
	}
	if _, err := r.Find(ctx, []lookup.Version{version}); !errors.Is(err, context.Canceled) {
		t.Errorf("before the query: %v", err)
	}
}

func testManyVersions(t *testing.T, s fhirServer) {
	const n = 2*2000 + 500 // 2,000 in a query
	var versions []lookup.Version
	var documents []bson.D
	var want []string
	start := time.UnixMilli(1795395943536)
	for i := range n {
		v := lookup.Version{
			Collection: "Consent_4_0_0", UUID: fmt.Sprintf("uuid-%d", i/2), VersionID: fmt.Sprint(i%2 + 1),
			LastUpdated: start.Add(time.Duration(i/7) * time.Millisecond),
		}
		versions = append(versions, v)
		documents = append(documents, bson.D{
			{Key: "id", Value: v.UUID},
			{Key: "resource", Value: bson.D{
				{Key: "_uuid", Value: v.UUID},
				{Key: "meta", Value: bson.D{{Key: "versionId", Value: v.VersionID}, {Key: "lastUpdated", Value: v.LastUpdated}}},
			}},
			{Key: "request", Value: bson.D{{Key: "id", Value: fmt.Sprintf("req-%d", i)}}},
		})
		want = append(want, fmt.Sprintf("req-%d", i))
	}
	if _, err := s.history.Collection("Consent_4_0_0_History").InsertMany(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
	r := lookup.NewRequestIDs(s.history, lookup.RequestIDOptions{})
	began := time.Now()
	answers, err := r.Find(t.Context(), versions)
	if err != nil {
		t.Fatal(err)
	}
	got := idsOf(answers)
	t.Logf("%d versions in %v", n, time.Since(began))
	if !slices.Equal(got, want) {
		t.Error("not every version got its own request")
	}
	if got := r.Stats().Queries; got != 3 {
		t.Errorf("%d queries", got)
	}
}

// idsOf are the request ids of answers.
func idsOf(answers []lookup.Answer) []string {
	var ids []string
	for _, a := range answers {
		ids = append(ids, a.RequestID)
	}
	return ids
}
