package daemon

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// A position that its cluster has not come to is not read on from: the stream says so
// and waits until it is given another one.
func TestPositionAheadOfItsClusterIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), ClusterTime: bson.Timestamp{T: 100_000}, Fingerprint: "f"}}
		source := tick(t)
		source.newest = bson.Timestamp{T: 100_000 - 61}
		s := stream(source, nil, k, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
		if p := s.Progress(); (p.State != Waiting && p.State != Acquiring) || !strings.Contains(p.LastError, "lies ahead of the cluster") {
			t.Errorf("state %s, error %q", p.State, p.LastError)
		}
		if got := k.ids(); len(got) != 0 || len(source.from) != 0 {
			t.Errorf("events %v, opened at %v", got, source.from)
		}
		k.mu.Lock()
		k.position.ClusterTime.T-- // a minute ahead is none: members lag
		k.mu.Unlock()
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
		if got := k.ids(); len(got) == 0 {
			t.Error("it does not go on")
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
