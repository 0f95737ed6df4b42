package daemon

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// beginning is a source whose stream begins when it is told to.
type beginning struct {
	script

	asked, may chan struct{}
}

func (b *beginning) Begin(ctx context.Context, from watcher.From) (bson.Raw, error) {
	close(b.asked)
	<-b.may
	return b.script.Begin(ctx, from)
}

// A stream's place is known once its position is stored, here or by another process as
// far as this one is told, and not before.
func TestHasPosition(t *testing.T) {
	source := &beginning{script: script{fingerprint: "f", begin: token(1)}, asked: make(chan struct{}), may: make(chan struct{})}
	var all kept
	publish := func() (Publisher, error) { return &recorder{&all}, nil }
	mine := NewStream(Options{Name: "mine", DrainTimeout: time.Minute, IdleInterval: time.Hour}, Parts{Source: source, Mapper: mapper.New(mapper.Config{}), Publish: publish}, zap.NewNop())
	other := NewStream(Options{Name: "other"}, Parts{Source: &script{}, Mapper: mapper.New(mapper.Config{}), Publish: publish}, zap.NewNop())
	replica := NewReplica(t.Context(), map[int32][]*Stream{1: {mine}, 2: {other}}, time.Minute, zap.NewNop())
	check := func(when string, mineIs, otherIs bool) {
		t.Helper()
		if m, o := mine.Progress().HasPosition, other.Progress().HasPosition; m != mineIs || o != otherIs {
			t.Errorf("%s: has a position %v and %v, want %v and %v", when, m, o, mineIs, otherIs)
		}
	}
	check("before the group has answered", false, false)
	replica.Assigned([]int32{1})
	<-source.asked
	check("while the first position is not stored", false, false)
	other.SawPosition(resumetoken.Position{})
	check("when another process has stored one", false, true)
	close(source.may)
	for mine.Progress().State != Running {
		select {
		case <-t.Context().Done():
			t.Fatal("the stream does not run")
		case <-time.After(time.Millisecond):
		}
	}
	check("when it runs", true, true)
	replica.Revoked([]int32{1})
	check("after it was handed over", true, true)
}
