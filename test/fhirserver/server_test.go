package fhirserver

import (
	"bufio"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const marker = "Zzmarker"

// documents are one of each sort, by the collection that the server writes it to.
func documents(t *testing.T) map[string]bson.D {
	t.Helper()
	s := New(nil, Options{Marker: marker, Now: func() time.Time { return time.Unix(1795395965, 947e6) }})
	consent := s.version("Consent", "con-1", Owner, s.Consent(), 1)
	changed := s.next(consent, Set("status", "inactive"))
	request := s.NewRequest("e3b35308-0ad4-591b-b14f-0c3e15f45713")
	return map[string]bson.D{
		"fhir.Consent_4_0_0":                     consent.Document,
		"fhir.ExportStatus_4_0_0":                s.version(exportStatus, "9168839e-791e-4a15-8e0e-73d3776cdbe0", BwellOwner, s.ExportStatus(), 1).Document,
		"resource-history.Consent_4_0_0_History": historyDocument(changed, "PUT"),
		"audit-event.AuditEvent_4_0_0":           s.AuditEvent(request),
		"access-logs.access-logs":                s.AccessLog(request),
	}
}

// The documents have every field that the recorded server's have in all documents
// of that sort, as far as the daemon could look at it, and of the same type.
func TestShapesAreTheRecordedOnes(t *testing.T) {
	for namespace, ours := range documents(t) {
		recorded := common(t, namespace)
		if len(recorded) == 0 {
			t.Fatalf("%s: nothing recorded", namespace)
		}
		got := paths(t, ours)
		for path, typ := range recorded {
			if skipped(path) {
				continue
			}
			if got[path] != typ {
				t.Errorf("%s: %s is %q, the server's is %q", namespace, path, got[path], typ)
			}
		}
	}
}

// skipped tells of the fields that say nothing to the daemon.
func skipped(path string) bool {
	for _, prefix := range []string{"_id", "details.", "agent.network", "source.", "request.duration", "type.display", "response."} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// The marker has to be in a document, or a test that looks for it proves nothing.
func TestMarkerIsInEveryDocument(t *testing.T) {
	for namespace, document := range documents(t) {
		text, err := bson.MarshalExtJSON(document, false, false)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), marker) {
			t.Errorf("the document of %s has no marker", namespace)
		}
	}
}

func TestUUIDIsTheServers(t *testing.T) {
	for _, test := range []struct{ id, owner, want string }{
		{"con-1", "acme", "9778576a-8f48-5fe7-98a4-7c6664cdbf46"},
		{"3d379f14-c92a-4863-97a8-21d226f805c5", "acme", "3d379f14-c92a-4863-97a8-21d226f805c5"},
	} {
		if got := UUID(test.id, test.owner); got != test.want {
			t.Errorf("UUID(%q, %q) = %s, want %s", test.id, test.owner, got, test.want)
		}
	}
}

// A later version leaves the former as it was.
func TestNextVersion(t *testing.T) {
	at := time.Unix(1795395965, 0)
	s := New(nil, Options{Now: func() time.Time { at = at.Add(time.Second); return at }})
	first := s.version("Consent", "con-1", Owner, s.Consent(), 1)
	before, err := bson.Marshal(first.Document)
	if err != nil {
		t.Fatal(err)
	}
	second := s.next(first, Set("status", "inactive"))
	third := s.next(second, nil)
	after, err := bson.Marshal(first.Document)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before, after) {
		t.Error("the first version has changed")
	}
	if third.VersionID != "3" || field(third.Document, "status") != "inactive" || !third.LastUpdated.After(second.LastUpdated) {
		t.Errorf("third version %s, status %v, %s after %s", third.VersionID, field(third.Document, "status"), third.LastUpdated, second.LastUpdated)
	}
	if first.Document[0].Value != third.Document[0].Value || first.UUID != third.UUID {
		t.Error("the third version is of another resource")
	}
}

// common are the fields that all recorded documents of a namespace have, by path.
func common(t *testing.T, namespace string) map[string]string {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "testdata", "fhir-server", "changestream.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]string
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var c struct {
			Document  bson.D `bson:"fullDocument"`
			Namespace struct {
				Database   string `bson:"db"`
				Collection string `bson:"coll"`
			} `bson:"ns"`
		}
		if err := bson.UnmarshalExtJSON(scanner.Bytes(), true, &c); err != nil {
			t.Fatal(err)
		}
		if c.Namespace.Database+"."+c.Namespace.Collection != namespace || c.Document == nil {
			continue
		}
		got := paths(t, c.Document)
		if all == nil {
			all = got
		}
		for path := range all {
			if got[path] != all[path] {
				delete(all, path)
			}
		}
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// paths are the types of a document's fields; the elements of an array count as one.
func paths(t *testing.T, document bson.D) map[string]string {
	t.Helper()
	raw, err := bson.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	var walk func(prefix string, raw bson.Raw, array bool)
	walk = func(prefix string, raw bson.Raw, array bool) {
		elements, err := raw.Elements()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range elements {
			path, v := prefix+e.Key(), e.Value()
			if array {
				path = strings.TrimSuffix(prefix, ".")
			}
			switch v.Type {
			case bson.TypeEmbeddedDocument:
				walk(path+".", v.Document(), false)
			case bson.TypeArray:
				walk(path+".", bson.Raw(v.Array()), true)
			default:
				found[path] = v.Type.String()
			}
		}
	}
	walk("", raw, false)
	return found
}
