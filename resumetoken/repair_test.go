package resumetoken

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func keepsRepair(t *testing.T, open home) {
	t.Helper()
	s := open(t, "repair", "one")
	mustBeNew(t, s)
	for name, after := range map[string]any{"none": nil, "an ObjectID": bson.NewObjectID(), "a text": "$b", "a document": bson.D{{Key: "a", Value: int64(1)}}} {
		p := position(t, "repair", 2000)
		p.Repair = &Repair{
			Token: p.Token, ClusterTime: bson.Timestamp{T: 3000, I: 2}, Fingerprint: "pipeline-2", History: "set 65a",
			Began: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC), Step: "fhir.Consent_4_0_0", Events: 5, DeadLetters: 1,
		}
		if after != nil {
			typ, data, err := bson.MarshalValue(after)
			if err != nil {
				t.Fatal(err)
			}
			p.Repair.After = bson.RawValue{Type: typ, Value: data}
		}
		mustSave(t, s, p)
		got := mustAcquire(t, s)
		if got.Repair == nil || !got.Repair.After.Equal(p.Repair.After) {
			t.Fatalf("cursor %s: got %+v", name, got.Repair)
		}
		got.Repair.After, p.Repair.After = bson.RawValue{}, bson.RawValue{}
		if diff := cmp.Diff(p.Repair, got.Repair); diff != "" {
			t.Errorf("cursor %s: stored -, got +:\n%s", name, diff)
		}
	}
	mustSave(t, s, position(t, "repair", 3000))
	if got := mustAcquire(t, s); got.Repair != nil {
		t.Errorf("the repair is still there: %+v", got.Repair)
	}
}
