package faults_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// TestCheckOfOplog makes sure that the events of an oplog are the right ones, and that
// what is not in it is seen as a fault, as a write that was rolled back.
func TestCheckOfOplog(t *testing.T) {
	const uuid, key = "9778576a-8f48-5fe7-98a4-7c6664cdbf46", "con-1"
	databases, topics := fhirserver.DefaultDatabases(), harness.Topics{Change: "change", Export: "export", AccessedEverything: "usage"}
	consents := databases.Main + ".Consent_4_0_0"
	at := func(n int) time.Time { return time.UnixMilli(1795395965947 + int64(n)) }
	meta := func(version string, n int) bson.D {
		return bson.D{{Key: "versionId", Value: version}, {Key: "lastUpdated", Value: at(n)}}
	}
	document := func(version string, n int) bson.D {
		return bson.D{{Key: "_id", Value: 1}, {Key: "_uuid", Value: uuid}, {Key: "id", Value: key}, {Key: "meta", Value: meta(version, n)}}
	}
	raw := func(d bson.D) bson.Raw {
		b, err := bson.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	entry := func(operation, namespace string, object bson.D) bson.D {
		e := bson.D{{Key: "op", Value: operation}, {Key: "ns", Value: namespace}, {Key: "o", Value: object}}
		if operation == "u" {
			e = append(e, bson.E{Key: "o2", Value: bson.D{{Key: "_id", Value: 1}}})
		}
		return e
	}
	created := entry("i", consents, document("1", 1))
	replaced := entry("u", consents, document("2", 2))
	updated := entry("u", consents, bson.D{{Key: "$v", Value: 2}, {Key: "diff", Value: bson.D{{Key: "u", Value: bson.D{{Key: "meta", Value: meta("3", 3)}}}}}})
	deleted := entry("d", consents, bson.D{{Key: "_id", Value: 1}})
	again := entry("i", consents, document("1", 5))
	job := entry("i", databases.Main+".ExportStatus_4_0_0", document("1", 1))
	access := entry("i", databases.AccessLogs+".access-logs", bson.D{{Key: "request", Value: bson.D{{Key: "systemGeneratedRequestId", Value: "r-1"}}}})
	audit := entry("i", databases.AuditEvents+".AuditEvent_4_0_0", bson.D{{Key: "entity", Value: bson.A{bson.D{{Key: "detail", Value: bson.A{
		bson.D{{Key: "type", Value: "requestUrl"}, {Key: "valueString", Value: "u"}},
		bson.D{{Key: "type", Value: "requestId"}, {Key: "valueString", Value: "r-1"}},
	}}}}}})
	other := entry("i", "somebody.else", document("1", 1))
	nothing := entry("n", "", bson.D{{Key: "msg", Value: "periodic noop"}})
	transaction := entry("c", "admin.$cmd", bson.D{{Key: "applyOps", Value: bson.A{created, replaced}}})
	prepared := entry("c", "admin.$cmd", bson.D{{Key: "applyOps", Value: bson.A{created}}, {Key: "prepare", Value: true}})

	change := func(version string, n int) string { return harness.ChangeID(consents, uuid, version, at(n)) }
	jobs := databases.Main + ".ExportStatus_4_0_0"
	for name, test := range map[string]struct {
		entries []bson.D
		want    []string
		err     error
	}{
		"each kind of change": {
			[]bson.D{nothing, created, other, replaced, updated, deleted, again},
			[]string{change("1", 1), change("2", 2), change("3", 3), harness.DeleteID(consents, uuid, "3", at(3)), change("1", 5)},
			nil,
		},
		"a transaction":          {[]bson.D{transaction, updated}, []string{change("1", 1), change("2", 2), change("3", 3)}, nil},
		"an export":              {[]bson.D{job}, []string{harness.ExportID(jobs, uuid, "1", at(1)), harness.ChangeID(jobs, uuid, "1", at(1))}, nil},
		"a request's traces":     {[]bson.D{audit, access, audit}, []string{harness.AccessedEverythingID("r-1")}, nil},
		"a prepared transaction": {[]bson.D{prepared}, nil, errOplog},
		"created twice":          {[]bson.D{created, again}, nil, errOplog},
		"replaced by itself":     {[]bson.D{created, replaced, replaced}, nil, errOplog},
		"deleted, not created":   {[]bson.D{deleted}, nil, errOplog},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOplog(topics, databases)
			var err error
			for _, e := range test.entries {
				var one oplogEntry
				if err := bson.Unmarshal(raw(e), &one); err != nil {
					t.Fatal(err)
				}
				if err = o.add(one); err != nil {
					break
				}
			}
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if got := ids(o.events); err == nil && !slices.Equal(got, test.want) {
				t.Errorf("the events are %v, want %v", got, test.want)
			}
		})
	}

	// The judge sees what went wrong with the records of these two changes.
	o := newOplog(topics, databases)
	for _, e := range []bson.D{created, replaced} {
		var one oplogEntry
		if err := bson.Unmarshal(raw(e), &one); err != nil {
			t.Fatal(err)
		}
		if err := o.add(one); err != nil {
			t.Fatal(err)
		}
	}
	record := func(id string) harness.Record {
		return harness.Record{Topic: topics.Change, Key: key, Value: []byte(`{"id":"` + id + `"}`), Headers: harness.Headers{{Key: "b3", Value: id}}}
	}
	first, second, undone := record(change("1", 1)), record(change("2", 2)), record(change("2", 9))
	for fault, records := range map[string][]harness.Record{
		"":              {first, second},
		faultMissing:    {first},
		faultTwice:      {first, second, second},
		faultOrder:      {second, first},
		faultUnexpected: {first, undone, second}, // of a version 2 that was rolled back
	} {
		f := check(records, o.events, true)
		if (fault == "" && len(f.faults) > 0) || (fault != "" && len(f.faults[fault]) == 0) {
			t.Errorf("want the fault %q, got\n%s", fault, f)
		}
	}
	o.events = append(o.events, o.events[0])
	if d := o.doubled(); len(d) != 1 {
		t.Errorf("doubled ids %v, want one", d)
	}
}
