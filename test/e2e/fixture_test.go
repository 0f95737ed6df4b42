package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// TestFixture plays what a real FHIR server wrote to its databases to a daemon that
// knows nothing but that server's own variables, and compares everything that
// lands in Kafka: with what the specification says of the documents, and with what
// the server itself sent.
func TestFixture(t *testing.T) {
	r := readRecording(t)
	i := defaultInstallation(t)
	i.site.Topics.PersonLink = "fhir.manual.person.linking.events"
	i.env = harness.With(i.site.ServerEnv(), "FHIR_CDC_TOPICS_CREATE", "true", "FHIR_CDC_FACTS_WAIT", slowMachine)
	daemon := i.start()
	reader := i.reader()

	changes, exports := expectedChanges(t, r, i.site), expectedExports(t, r, i.site)
	accesses, links := expectedAccesses(t, r), expectedLinks(t, r, i.site)
	i.play(t, r, reader, accesses)

	var ids []string
	for _, e := range slices.Concat(changes, exports, accesses, links) {
		ids = append(ids, e.id)
	}
	i.until(reader, ids...)
	i.stop(daemon)
	records, err := reader.End(i.ctx)
	i.check(err)

	if got := harness.Of(records, i.site.Topics.DeadLetters); len(got) > 0 {
		t.Errorf("%d dead letters, the first: %s", len(got), got[0].Value)
	}
	t.Run("change", func(t *testing.T) { compareEvents(t, changes, harness.Of(records, i.site.Topics.Change)) })
	t.Run("export", func(t *testing.T) { compareEvents(t, exports, harness.Of(records, i.site.Topics.Export)) })
	t.Run("accessed everything", func(t *testing.T) {
		compareEvents(t, accesses, harness.Of(records, i.site.Topics.AccessedEverything))
	})
	t.Run("person link", func(t *testing.T) { compareEvents(t, links, harness.Of(records, i.site.Topics.PersonLink)) })
	t.Run("server's change events", func(t *testing.T) { compareServerChanges(t, r, harness.Of(records, i.site.Topics.Change)) })
	t.Run("server's export events", func(t *testing.T) { compareServerExports(t, r, harness.Of(records, i.site.Topics.Export)) })
	t.Run("server's usage events", func(t *testing.T) {
		compareServerAccesses(t, r, harness.Of(records, i.site.Topics.AccessedEverything))
	})
}

// defaultInstallation has the names that the daemon takes by itself, and databases
// of its own. Tests with one do not run side by side; what they leave on the broker
// is deleted.
func defaultInstallation(t *testing.T) *installation {
	t.Helper()
	i := installAt(t, fhirserver.Options{}, func(s *harness.Site) {
		d := harness.DefaultSite(s.MongoURI, s.Brokers)
		s.Name, s.Topics = d.Name, d.Topics
	})
	admin := harness.Admin(t, i.site.Brokers)
	t.Cleanup(func() {
		if _, err := admin.DeleteTopics(context.WithoutCancel(t.Context()), i.site.Topics.All()...); err != nil {
			t.Errorf("delete the topics: %v", err)
		}
	})
	return i
}

// play applies the recorded changes in their order.
func (i *installation) play(t *testing.T, r recording, reader *harness.Reader, accesses []expectation) {
	t.Helper()
	for n, c := range r.changes {
		if takesMasterPersonAway(c) {
			// Minutes lie between the last $everything and this change, so the server
			// knew the master person at each of them. So has the daemon to.
			ids := make([]string, len(accesses))
			for i, e := range accesses {
				ids[i] = e.id
			}
			i.until(reader, ids...)
		}
		if err := i.apply(c); err != nil {
			t.Fatalf("recorded change %d: %v", n+1, err)
		}
	}
}

func takesMasterPersonAway(c recordedChange) bool {
	return c.of() == "Person" && c.Operation == "replace" &&
		text(c.Document, "id") == "master-1" && len(elements(c.Document, "link")) == 0
}

func (i *installation) apply(c recordedChange) error {
	collection := shared.client.Database(c.database(i.site)).Collection(c.Namespace.Collection)
	switch c.Operation {
	case "insert":
		_, err := collection.InsertOne(i.ctx, c.Document)
		return err
	case "replace":
		result, err := collection.ReplaceOne(i.ctx, c.DocumentKey, c.Document)
		if err == nil && result.MatchedCount != 1 {
			return fmt.Errorf("replaced %d documents", result.MatchedCount)
		}
		return err
	case "delete":
		result, err := collection.DeleteOne(i.ctx, c.DocumentKey)
		if err == nil && result.DeletedCount != 1 {
			return fmt.Errorf("deleted %d documents", result.DeletedCount)
		}
		return err
	default:
		return fmt.Errorf("operation %s", c.Operation)
	}
}

// expectation is one record that has to be there.
type expectation struct {
	id string
	// key is the record's; empty where the specification leaves it to the daemon.
	key     string
	headers harness.Headers
	// value is the exact value.
	value string
}

// compareEvents compares the records of a topic with what is expected: the same
// events, each once and with exactly these bytes, and for each key in this order.
func compareEvents(t *testing.T, want []expectation, got []harness.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	records := map[string]harness.Record{}
	for _, r := range got {
		if _, twice := records[r.EventID()]; twice {
			t.Errorf("event %s is there twice", r.EventID())
		}
		records[r.EventID()] = r
	}
	order := map[string][]string{}
	for _, e := range want {
		r, ok := records[e.id]
		if !ok {
			t.Errorf("event %s is missing: %s", e.id, e.value)
			continue
		}
		delete(records, e.id)
		order[r.Key] = append(order[r.Key], e.id)
		if e.key != "" && r.Key != e.key {
			t.Errorf("event %s has key %q, want %q", e.id, r.Key, e.key)
		}
		if diff := cmp.Diff(e.headers, r.Headers); diff != "" {
			t.Errorf("headers of event %s (-want +got):\n%s", e.id, diff)
		}
		if string(r.Value) != e.value {
			t.Errorf("value of event %s:\n got %s\nwant %s", e.id, r.Value, e.value)
		}
	}
	for id, r := range records {
		t.Errorf("event %s is one too many: %s", id, r.Value)
	}
	if diff := cmp.Diff(order, byKey(got)); diff != "" {
		t.Errorf("order of events of each key (-want +got):\n%s", diff)
	}
}

// historyOf finds the request that made a version, as the specification says: by
// uuid, version and time.
func historyOf(r recording, document bson.Raw) (requestID string) {
	for _, c := range r.changes {
		if c.Namespace.Database != "resource-history" {
			continue
		}
		resource, ok := c.Document.Lookup("resource").DocumentOK()
		if ok && text(resource, "_uuid") == text(document, "_uuid") &&
			text(resource, "meta", "versionId") == text(document, "meta", "versionId") &&
			resource.Lookup("meta", "lastUpdated").Equal(document.Lookup("meta", "lastUpdated")) {
			return text(c.Document, "request", "id")
		}
	}
	return ""
}
