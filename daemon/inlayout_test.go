package daemon

import (
	"io"
	"path/filepath"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/layout"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// What is handed over to a stream is its stored position as soon as it is acquired, and
// a paused one's as well.
func TestHandedOverPositionIsStored(t *testing.T) {
	file := resumetoken.NewFile(filepath.Join(t.TempDir(), "positions.json"), "one")
	divided := func(streams ...string) (l layout.Layout) {
		for n, s := range streams {
			l = append(l, resumetoken.Coverage{Stream: s, Cluster: "main", Collections: []string{"fhir.a"}, Slice: n, Of: len(streams)})
		}
		return l
	}
	acquire := func(stream string, own layout.Layout) (*InLayout, resumetoken.Position, error) {
		handover := layout.NewHandover(own, divided("main"), func(stream string) (resumetoken.Keeper, error) { return file.Stream(stream), nil }, zap.NewNop())
		p := NewInLayout(publisher.NewStdout(io.Discard, file.Stream(stream), stream), handover, stream)
		at, err := p.Acquire(t.Context())
		return p, at, err
	}
	main, _, err := acquire("main", divided("main"))
	if err == nil {
		t.Fatal("a stream has a position before it has begun")
	}
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "820000000100000001"}})
	if err != nil {
		t.Fatal(err)
	}
	began := resumetoken.Position{Stream: "main", Token: token, ClusterTime: bson.Timestamp{T: 1000, I: 1}, Fingerprint: "f", Paused: true}
	if err := main.Commit(t.Context(), &publisher.Batch{Position: began}); err != nil {
		t.Fatal(err)
	}
	halves := divided("a-1-of-2", "a-2-of-2")
	for _, half := range halves {
		p, at, err := acquire(half.Stream, halves)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := file.Stream(half.Stream).Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := stored.Position; got.ClusterTime != began.ClusterTime || !got.Paused || got.Layout != halves.ID() || at.Layout != got.Layout || at.ClusterTime != got.ClusterTime {
			t.Errorf("stream %s has %+v stored and goes on at %+v", half.Stream, got, at)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
