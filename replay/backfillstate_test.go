package replay

import (
	"bytes"
	"os"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// A backfill's state has the bytes that earlier programs have stored: they go on from each
// other's.
func TestBackfillStateIsStoredAsBefore(t *testing.T) {
	want, err := os.ReadFile("../resumetoken/testdata/stored/backfill.json")
	if err != nil {
		t.Fatal(err)
	}
	want = bytes.TrimSuffix(want, []byte("\n"))
	document, err := bson.Marshal(backfillState{
		Step: "fhir.a", After: bson.RawValue{Type: bson.TypeInt32, Value: []byte{1, 0, 0, 0}}, Scanned: 10, Events: 7, DeadLetters: 1,
		Began: time.Unix(1763890001, 0).UTC(), Since: time.Unix(1763880000, 0).UTC(), Until: time.Unix(1763889999, 0).UTC(),
		Counts: []Count{{Kind: mapper.KindChange, Topic: "fhir.events"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := resumetoken.Encode(resumetoken.Position{Stream: "backfill-1", State: &resumetoken.State{Document: document}}, "me"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
}
