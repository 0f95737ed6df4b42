package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// What a stream has committed is stored with its position: each process counts on from there,
// what failed is counted once, and a stand-by sees it.
func TestCountsOutliveProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		k := &kept{failures: 2, position: resumetoken.Position{
			Stream: "main", Token: token(1), Fingerprint: "f", Counts: &resumetoken.Counts{Since: began, Kinds: []resumetoken.KindCount{{Kind: "change", Created: 40, Updated: 2}, {Kind: "export", Created: 9}}},
		}}
		bad := change(t, 4, nil)
		for i := range 2 {
			s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2+10*i), consent(t, 3+10*i)), chunk(bad)}}
			if err := play(t, stream(s, nil, k, nil), time.Minute); err != nil {
				t.Fatal(err)
			}
			bad = change(t, 14, nil)
		}
		want := &resumetoken.Counts{Since: began, Kinds: []resumetoken.KindCount{{Kind: "change", Created: 44, Updated: 2, DeadLetters: 2}, {Kind: "export", Created: 9}}}
		if diff := cmp.Diff(want, k.position.Counts); diff != "" {
			t.Errorf("stored, -want +got:\n%s", diff)
		}
		standby := stream(&script{}, nil, &kept{}, nil)
		standby.SawPosition(k.position)
		if p := standby.Progress(); cmp.Diff(want, p.Counts) != "" || p.Seen.IsZero() || p.Held {
			t.Errorf("a stand-by shows %+v, seen %v", p.Counts, p.Seen)
		}
		k.position.Paused, k.position.Repair = true, &resumetoken.Repair{Step: "fhir.a", Events: 3}
		standby.SawPosition(k.position)
		if p := standby.Progress(); !p.Held || p.Repair == nil || p.Repair.Collection != "fhir.a" || p.Repair.Events != 3 {
			t.Errorf("a stand-by shows %+v", p)
		}
		standby.progress.state(Acquiring)
		if p := standby.Progress(); p.Held || p.Repair != nil || !p.Seen.IsZero() || p.Counts == nil {
			t.Errorf("what it saw while standing by stays: %+v", p)
		}
	})
}

// A position without counts, as earlier programs store it, has the counting begin.
func TestCountsBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
		now := time.Now()
		if err := play(t, stream(&script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2))}}, nil, k, nil), time.Minute); err != nil {
			t.Fatal(err)
		}
		if c := k.position.Counts; c == nil || !c.Since.Equal(now) || len(c.Kinds) != 1 || c.Kinds[0] != (resumetoken.KindCount{Kind: "change", Created: 1}) {
			t.Errorf("%+v", c)
		}
	})
}

// Events are counted by the resource types that the stream watches, each from the start, and dead
// letters by reasons of which there are few: an event's size and its topic's limit are none.
func TestCountsBySort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
		s := stream(&script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2), consent(t, 3), change(t, 4, nil))}}, nil, k, nil)
		before := s.Progress()
		if n, watched := before.Resources["Consent"]; !watched || n != 0 || len(before.Reasons) > 0 {
			t.Errorf("before the first event: %v, %v", before.Resources, before.Reasons)
		}
		if err := play(t, s, time.Minute); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			batch := &publisher.Batch{}
			out := mapper.Output{Events: []mapper.Event{{Kind: mapper.KindChange, Value: make([]byte, 100)}, {Kind: mapper.KindChange, Value: make([]byte, 200)}}}
			tooLarge(func(string) int { return 50 }, 0, &out)
			batch.Failures = out.Failures
			s.progress.count(batch, nil, time.Now())
		}
		after := s.Progress()
		if after.Resources["Consent"] != 2 || len(after.Resources) != len(before.Resources) {
			t.Errorf("by resource type: %v", after.Resources)
		}
		if len(after.Reasons) != 2 || after.Reasons[Reason{mapper.KindChange, reasonTooLarge}] != 4 {
			t.Errorf("by reason: %v", after.Reasons)
		}
	})
}
