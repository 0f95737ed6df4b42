package mapper_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// reasons is every reason there is. A Reason that is not one of them may carry
// contents of a document.
func reasons() []string {
	return []string{
		"deleted without a pre-image: switch changeStreamPreAndPostImages on for the collection",
		"the document was deleted before its update could be looked up",
		"id is missing", "id is empty", "id is not a string", "_uuid is not a string",
		"meta.versionId is not a string", "meta.lastUpdated is not a date", "meta.lastUpdated is outside the years 1 to 9999",
		"valueString of the extension sourceType is not a string",
		"status is missing", "status is not a string", "status is none of accepted, in-progress, completed, entered-in-error",
		"request is not a string", "meta.source is not a string",
		"transactionTime is neither a string nor a date of the years 1 to 9999",
		"the request's id is missing or not a string", "the request's time is not a date",
		"the request's time is outside the years 1 to 9999",
	}
}

func TestEveryReasonIsReached(t *testing.T) {
	files, err := filepath.Glob("testdata/*.change.json")
	if err != nil {
		t.Fatal(err)
	}
	cfg := defaults()
	cfg.Deletes = true
	reached := map[string]bool{}
	for _, f := range files {
		for _, failure := range mapOne(t, cfg, readChange(t, strings.TrimSuffix(filepath.Base(f), ".change.json")), mapper.Facts{}).Failures {
			reached[failure.Reason] = true
			if !slices.Contains(reasons(), failure.Reason) {
				t.Errorf("%s: unknown reason %q", f, failure.Reason)
			}
		}
	}
	for _, r := range reasons() {
		if !reached[r] {
			t.Errorf("no golden case for %q", r)
		}
	}
}

func TestFailureNamesTheChangeAndNothingOfItsContents(t *testing.T) {
	raw := readChange(t, "export-status-unknown") // its status is "cancelled Marker Marvolo"
	out := mapOne(t, defaults(), raw, mapper.Facts{})
	if len(out.Failures) != 1 {
		t.Fatalf("%d failures", len(out.Failures))
	}
	f := out.Failures[0]
	at, increment := raw.Lookup("clusterTime").Timestamp()
	want := mapper.ChangeName{
		Database: "fhir", Collection: "ExportStatus_4_0_0", Operation: "insert",
		DocumentKey: raw.Lookup("documentKey").Document(), Token: raw.Lookup("_id").Document(),
		ClusterTime: bson.Timestamp{T: at, I: increment},
		WallTime:    raw.Lookup("wallTime").Time().UnixMilli(),
	}
	if diff := cmp.Diff(want, f.Change); diff != "" {
		t.Error(diff)
	}
	const text = "export event of fhir.ExportStatus_4_0_0: status is none of accepted, in-progress, completed, entered-in-error"
	if f.Error() != text {
		t.Errorf("%q, want %q", f.Error(), text)
	}
}

// TestInvalidUTF8 needs no golden file, for JSON files can't hold it. MongoDB takes
// any bytes as a string.
func TestInvalidUTF8(t *testing.T) {
	raw := consent{collection: "ExportStatus_4_0_0", id: "a\xffb", extra: bson.D{
		{Key: "sourceType", Value: "\xc3"},
		{Key: "export", Value: bson.D{
			{Key: "status", Value: "accepted"},
			{Key: "request", Value: "\xe2\x80"},
			{Key: "source", Value: "\xff"},
			{Key: "transactionTime", Value: "\xed\xa0\x80"},
		}},
	}}.raw(t)
	out := mapOne(t, defaults(), raw, mapper.Facts{})
	if len(out.Events) != 2 || len(out.Failures) > 0 {
		t.Fatalf("%d events, failures %v", len(out.Events), out.Failures)
	}
	for _, e := range out.Events {
		if !utf8.Valid(e.Value) || !json.Valid(e.Value) {
			t.Errorf("value is no UTF-8 JSON: %q", e.Value)
		}
		if b3 := header(t, e, "b3"); b3 != "a\ufffdb" {
			t.Errorf("header b3 %q", b3)
		}
	}
	change, export := out.Events[0], out.Events[1]
	if string(change.Key) != "a\xffb" { // A key is bytes; it is the id's own.
		t.Errorf("key %q", change.Key)
	}
	if got := body[auditEvent](t, change).Agent[0].Who["reference"]; got != "ExportStatus/a\ufffdb" {
		t.Errorf("reference %q", got)
	}
	want := `"source":"\ufffd","type":"ExportInitiated","datacontenttype":"application/json",` +
		`"data":{"exportJobId":"a\ufffdb","transactionTime":"\ufffd\ufffd\ufffd","request":"\ufffd\ufffd","status":"accepted"}}`
	if !strings.HasSuffix(string(export.Value), strings.ReplaceAll(want, `\ufffd`, "\ufffd")) {
		t.Errorf("value %s", export.Value)
	}
}
