package daemon

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

func newestEvent(t *testing.T, id string) mapper.Event {
	t.Helper()
	key, err := bson.Marshal(bson.D{{Key: "_id", Value: id}})
	if err != nil {
		t.Fatal(err)
	}
	return mapper.Event{Kind: mapper.KindChange, ID: "event-" + id, Value: []byte("contents"), Change: mapper.ChangeName{
		Database: "fhir", Collection: "Consent_4_0_0", Operation: "replace", DocumentKey: key, WallTime: 1_700_000_000_000,
	}}
}

// A stream remembers its last events, the newest first, however they came in batches.
func TestNewestEvents(t *testing.T) {
	for _, batch := range []int{1, 7, keptEvents, 120} {
		var n newest
		for at := 0; at < 120; {
			var events []mapper.Event
			for ; len(events) < batch && at < 120; at++ {
				events = append(events, newestEvent(t, fmt.Sprint(at)))
			}
			n.add(events, time.Unix(int64(at), 0))
		}
		all := n.list("main")
		if len(all) != keptEvents || all[keptEvents-1].Document != "70" {
			t.Fatalf("batches of %d: %d events, the last %+v", batch, len(all), all[len(all)-1])
		}
		want := Carried{
			Stream: "main", Kind: mapper.KindChange, Action: Update, Namespace: "fhir.Consent_4_0_0", ResourceType: "Consent", Document: "119", ID: "event-119",
			Changed: time.UnixMilli(1_700_000_000_000).UTC(), Committed: time.Unix(120, 0).UTC(),
		}
		if diff := cmp.Diff(want, all[0]); diff != "" {
			t.Errorf("batches of %d, -want +got:\n%s", batch, diff)
		}
	}
}

// A batch costs no allocation, and its memory is not kept: neither contents nor a long key.
func TestNewestEventsKeepNoBatch(t *testing.T) {
	var n newest
	events := []mapper.Event{newestEvent(t, "first"), newestEvent(t, strings.Repeat("x", 2*maxKeptKey))}
	for range keptEvents {
		n.add(events, time.Time{})
	}
	if made := testing.AllocsPerRun(10, func() { n.add(events, time.Time{}) }); made > 0 {
		t.Errorf("%.0f allocations for a batch", made)
	}
	clear(events[0].Change.DocumentKey)
	if all := n.list("main"); all[1].Document != "first" || all[0].Document != "" {
		t.Errorf("documents %q and %q", all[1].Document, all[0].Document)
	}
}

// What a stream has committed it tells, and nothing that it could not commit.
func TestStreamTellsNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{failures: 2, position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
		s := stream(&script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2), consent(t, 3))}}, nil, k, nil)
		if len(s.Newest()) > 0 {
			t.Error("events before the beginning")
		}
		if err := play(t, s, time.Minute); err != nil {
			t.Fatal(err)
		}
		if all := s.Newest(); len(all) != 2 || all[0].ResourceType != "Consent" || all[0].ID == all[1].ID {
			t.Errorf("newest are %+v", all)
		}
	})
}
