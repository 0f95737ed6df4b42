package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

func TestFirstPositionIsStoredBeforeAnyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		s := &script{fingerprint: "f", begin: token(1), chunks: []watcher.Chunk{chunk(consent(t, 2), consent(t, 3))}}
		if err := play(t, stream(s, nil, k, nil), time.Second); err != nil {
			t.Fatal(err)
		}
		if first := k.batches[0]; len(first.Events) != 0 || !slices.Equal(first.Position.Token, token(1)) {
			t.Errorf("first batch is %+v, want the position of the start alone", first)
		} else if !first.Position.WallTime.Equal(time.Unix(1, 0)) {
			// An idle stream's cluster time moves on, and tells no more where the stream began.
			t.Errorf("the first position is of %v", first.Position.WallTime)
		}
		if got, want := k.ids(), []string{"c2", "c3"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		if got := k.position; !slices.Equal(got.Token, token(3)) || got.ClusterTime.T != 3 || got.Fingerprint != "f" || got.Stream != "main" {
			t.Errorf("position %+v", got)
		}
	})
}

func TestFailedCommitGoesOnFromTheStoredPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}, failures: 3}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2)), chunk(consent(t, 3))}}
		if err := play(t, stream(s, nil, k, nil), time.Minute); err != nil {
			t.Fatal(err)
		}
		if got, want := k.ids(), []string{"c2", "c3"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want each once: %v", got, want)
		}
		if len(s.from) != 4 || k.closed != 4 {
			t.Errorf("opened %d times, closed %d publishers; want 4 attempts", len(s.from), k.closed)
		}
	})
}

func TestPolicyStopPublishesWhatComesBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := change(t, 4, bson.D{{Key: "_uuid", Value: "u4"}})
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2), consent(t, 3), bad, consent(t, 5))}}
		err := play(t, stream(s, nil, k, func(o *Options, _ *Facts) { o.Stop = map[mapper.Kind]bool{mapper.KindChange: true} }), time.Minute)
		var policy *PolicyError
		if !errors.As(err, &policy) || policy.Failure.Reason != "id is missing" {
			t.Fatalf("got %v, want the policy's error", err)
		}
		if got, want := k.ids(), []string{"c2", "c3"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		if !slices.Equal(k.position.Token, token(3)) {
			t.Errorf("position %s, want right before the failed change", k.position.Token)
		}
	})
}

func TestFailuresGoWithTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := change(t, 3, bson.D{{Key: "id", Value: 7}})
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2), bad, consent(t, 4))}}
		if err := play(t, stream(s, nil, k, nil), time.Second); err != nil {
			t.Fatal(err)
		}
		var failures []string
		for _, b := range k.batches {
			for _, f := range b.Failures {
				failures = append(failures, f.Reason)
			}
		}
		if got, want := k.ids(), []string{"c2", "c4"}; !slices.Equal(got, want) || !slices.Equal(failures, []string{"id is not a string"}) {
			t.Errorf("events %v, failures %v", got, failures)
		}
	})
}

// The log says that there are dead letters and why, but not of each.
func TestDeadLettersAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := func(n int) bson.Raw { return change(t, n, bson.D{{Key: "id", Value: 7}}) }
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := stream(&script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2), bad(3), bad(4)), chunk(bad(5))}}, nil, k, nil)
		core, logged := observer.New(zap.WarnLevel)
		s.log = zap.New(core)
		if err := play(t, s, time.Second); err != nil {
			t.Fatal(err)
		}
		lines := logged.All()
		if len(lines) != 1 || lines[0].Message != "changes could not become events" || lines[0].ContextMap()["because"] != "id is not a string" {
			t.Errorf("logged: %+v", lines)
		}
	})
}

func TestOversizeEventBecomesAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}, max: 100}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2))}}
		if err := play(t, stream(s, nil, k, nil), time.Second); err != nil {
			t.Fatal(err)
		}
		if len(k.ids()) != 0 || len(k.batches[0].Failures) != 1 {
			t.Errorf("batch %+v, want one failure and no event", k.batches[0])
		}
	})
}

func TestChangedPipelineGoesOnByTimeAndLeavesOutWhatIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := bson.Timestamp{T: 3, I: 1}
		k := &kept{position: resumetoken.Position{Token: token(3), ClusterTime: at, Fingerprint: "old"}}
		s := &script{fingerprint: "new", chunks: []watcher.Chunk{
			chunk(consent(t, 2), consent(t, 3)), chunk(consent(t, 3), consent(t, 4)), chunk(consent(t, 5)),
		}}
		if err := play(t, stream(s, nil, k, nil), time.Second); err != nil {
			t.Fatal(err)
		}
		if s.from[0].ClusterTime != at || s.from[0].Token != nil {
			t.Errorf("opened from %+v, want the cluster time alone", s.from[0])
		}
		if got, want := k.ids(), []string{"c4", "c5"}; !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		if k.position.Fingerprint != "new" {
			t.Errorf("fingerprint %q", k.position.Fingerprint)
		}
	})
}

func TestIdlePositionsAreStoredNowAndThenAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := &idle{script: script{fingerprint: "f"}}
		if err := play(t, stream(s, nil, k, nil), 94*time.Second+500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if len(k.batches) != 4 {
			t.Errorf("%d positions stored in 94 s of idling, want one each 30 s and the last", len(k.batches))
		}
		if want := token(100 + 93); !slices.Equal(k.position.Token, want) {
			t.Errorf("last position %s, want %s", k.position.Token, want)
		}
	})
}

// idle sends an empty chunk each second.
type idle struct{ script }

func (s *idle) Run(ctx context.Context, _ watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	for n := 100; ; n++ {
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := emit(ctx, watcher.Chunk{Token: token(n)}); err != nil {
			return err
		}
	}
}

func TestFatalErrorsEndTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := &watcher.Error{Class: watcher.HistoryLost, Err: errors.New("gone")}
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2))}, err: lost}
		err := play(t, stream(s, nil, k, nil), time.Minute)
		if !errors.Is(err, lost) || len(s.from) != 1 {
			t.Errorf("got %v after %d attempts, want the error at once", err, len(s.from))
		}
	})
}

// A repair that has been allowed is not asked for again.
func TestLostHistoryThatIsRepairedNeedsNoOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := &watcher.Error{Class: watcher.HistoryLost, Hint: "allow the repair", Err: errors.New("gone")}
		k := &kept{position: resumetoken.Position{Token: token(1), Fingerprint: "f"}}
		s := stream(&script{fingerprint: "f", err: lost}, nil, k, func(o *Options, _ *Facts) {
			o.Repairer = jumping{resumetoken.Position{Stream: "main", Token: token(20), Fingerprint: "f"}}
		})
		if err := play(t, s, time.Minute); err != nil {
			t.Fatal(err)
		}
		p := s.Progress()
		if !strings.Contains(p.LastError, "gone") || strings.Contains(p.LastError, lost.Hint) || !strings.HasPrefix(p.Advice, "Nothing to do") {
			t.Errorf("last error %q, advice %q: want the cause, and nothing to do", p.LastError, p.Advice)
		}
	})
}

// The position of the last batch of a burst is stored soon, not only when the stream has been
// idle for long; where it is stored with the batch, nothing more is.
func TestThePositionFollowsTheLastBatch(t *testing.T) {
	for name, test := range map[string]struct {
		interval time.Duration
		want     int // commits within two seconds
	}{
		"stored with the batch": {0, 1},
		"stored later":          {time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
				source := &script{fingerprint: "f", chunks: []watcher.Chunk{chunk(consent(t, 2)), {Token: token(3)}}}
				s := stream(source, nil, k, func(o *Options, _ *Facts) { o.SaveInterval = test.interval })
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- s.Run(ctx) }()
				time.Sleep(2 * time.Second) //nolint:forbidigo // the bubble's clock.
				synctest.Wait()
				if got := len(k.batches); got != test.want {
					t.Errorf("%d commits, want %d", got, test.want)
				}
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if at, _ := tokens.ClusterTime(k.position.Token); at.T != 3 || len(k.ids()) != 1 {
					t.Errorf("the position is at %d, events %v", at.T, k.ids())
				}
			})
		})
	}
}
