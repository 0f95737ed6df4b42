package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// A stream whose position is no longer stored does not begin anew by itself: it waits
// until it is given one, and goes on there.
func TestPositionThatIsGoneIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := resumetoken.Position{Stream: "main", Token: token(1), ClusterTime: bson.Timestamp{T: 1, I: 1}, Fingerprint: "f"}
		k := &kept{position: at}
		source := tick(t)
		source.begin = token(100)
		s := stream(source, nil, k, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		set := func(p resumetoken.Position, failures int) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.position, k.failures = p, failures
		}
		time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // the bubble's clock.
		set(resumetoken.Position{}, 1)
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
		if p := s.Progress(); p.State != Waiting && p.State != Acquiring || !strings.Contains(p.LastError, "no longer stored: it was at cluster time 2,1") || !strings.Contains(p.Advice, "position set") {
			t.Errorf("state %s, error %q, advice %q", p.State, p.LastError, p.Advice)
		}
		if got, want := k.ids(), []string{"c2"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		at.Token, at.ClusterTime = token(2), bson.Timestamp{T: 2, I: 1}
		set(at, 0)
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
		if got := k.ids(); len(got) < 2 || got[1] != "c3" {
			t.Errorf("events %v, want c3 after c2", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// A stand-by that was told of a position does not begin anew either when it takes the
// stream over and none is stored, and says so before; one that was told of none begins.
func TestStandByKnowsThatThePositionIsGone(t *testing.T) {
	for _, c := range []struct {
		name    string
		told    []bson.Timestamp
		missing string
	}{
		{"never told of one", nil, ""},
		{"told of one that was handed over", []bson.Timestamp{{}}, ""},
		{"told of one", []bson.Timestamp{{T: 2, I: 1}, {T: 7, I: 3}}, "no longer stored: it was at cluster time 7,3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := tick(t)
				source.begin = token(100)
				s := stream(source, nil, &kept{}, nil)
				for _, at := range c.told {
					s.SawPosition(resumetoken.Position{ClusterTime: at})
				}
				s.Missing(nil)
				if got := s.Progress().Missing; (got == "") != (c.missing == "") || !strings.Contains(got, c.missing) {
					t.Errorf("while standing by: %q, want %q", got, c.missing)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- s.Run(ctx) }()
				time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock.
				if p := s.Progress(); (p.State == Running) != (c.missing == "") || !strings.Contains(p.LastError, c.missing) {
					t.Errorf("state %s, error %q, want %q", p.State, p.LastError, c.missing)
				}
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
