package status

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// told is a stream of a cluster that may hang.
type told struct {
	mu       sync.Mutex
	progress daemon.Progress
	window   watcher.Window
	hangs    bool
}

// change changes the stream while a sampler may ask it.
func (s *told) change(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *told) Progress() daemon.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress
}

func (s *told) Window(ctx context.Context) (watcher.Window, error) {
	s.mu.Lock()
	window, hangs := s.window, s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
	}
	return window, ctx.Err()
}

// at is an oplog time some seconds after the bubble's beginning.
func at(seconds int) bson.Timestamp {
	return bson.Timestamp{T: uint32(time.Date(2000, 1, 1, 0, 0, seconds, 0, time.UTC).Unix())}
}

// A cluster that hangs keeps nobody from asking another one, nor for the owners, and the lag
// of its own stream does not fall because nobody knows how far the cluster is.
func TestOneClusterHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := &told{progress: daemon.Progress{Stream: "access-logs", State: daemon.Running, ClusterTime: at(1), Handled: at(1)}, window: watcher.Window{Newest: at(0), Oldest: at(-3600)}}
		well := &told{progress: daemon.Progress{Stream: "main", State: daemon.Running, ClusterTime: at(-90), Handled: at(-90)}, window: watcher.Window{Newest: at(0)}}
		owner := make(chan string, 1) // of the other stream, once it has one
		owners := func(context.Context) (map[string]string, error) {
			select {
			case name := <-owner:
				owner <- name
				return map[string]string{"other": name}, nil
			default:
				return map[string]string{}, nil
			}
		}
		s := NewSampler(func() []SampledStream { return []SampledStream{hung, well} }, owners, nil, "self", zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		synctest.Wait()
		hung.change(func() { hung.hangs = true })
		owner <- "two"
		time.Sleep(5 * time.Minute) //nolint:forbidigo // the bubble's clock.
		synctest.Wait()             // for what happens at this very moment
		well.change(func() { well.window.Newest, well.progress.Handled = at(300), at(210) })
		hung.change(func() { hung.progress.Handled = at(120) }) // It was further than anybody had known.
		time.Sleep(time.Minute)                                 //nolint:forbidigo // the bubble's clock.
		synctest.Wait()
		views, now := s.Views(), time.Now()
		if lag, age := views[1].lag(now), views[1].sampleAge(now); *lag != 90 || *age > fresh.Seconds() {
			t.Errorf("the lag beside a cluster that hangs is %v s, as of %v s ago, want 90", *lag, *age)
		}
		// It was asked last 360 s ago; all that the cluster may have done since is unread.
		if lag, age := views[0].lag(now), views[0].sampleAge(now); *lag != 360-120 || *age != 360 {
			t.Errorf("the lag of a cluster that hangs is %v s, as of %v s ago, want 240 and 360", *lag, *age)
		}
		if left := views[0].oplogLeft(); *left != 3601 {
			t.Errorf("oplog left %v s, want what was known last, 3601", *left)
		}
		s.mu.Lock()
		if s.owned["other"] != "two" {
			t.Errorf("the owners are %v", s.owned)
		}
		s.mu.Unlock()
		cancel()
		<-ended
	})
}

// That no majority has a write is said once it has been known for a while, not of the first
// write after quiet, for which a majority takes its moment.
func TestNoMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &told{progress: daemon.Progress{Stream: "main", State: daemon.Running, ClusterTime: at(0)}, window: watcher.Window{Newest: at(0), Committed: at(0)}}
		s := NewSampler(func() []SampledStream { return []SampledStream{stream} }, nil, nil, "self", zap.NewNop())
		ask := func(newest, committed bson.Timestamp, want float64) {
			t.Helper()
			time.Sleep(askInterval) //nolint:forbidigo // the bubble's clock.
			stream.window = watcher.Window{Newest: newest, Committed: committed}
			s.ask(t.Context())
			if got := describe(s.Views()[0], time.Now()).UncommittedSeconds; got != want {
				t.Errorf("newest %v, committed %v: said for %v s, want %v", newest, committed, got, want)
			}
		}
		ask(at(0), at(0), 0)
		ask(at(3600), at(0), 0) // an hour of quiet, and a write
		ask(at(3610), at(3600), 0)
		ask(at(3620), at(3610), 0) // always a little behind
		ask(at(3630), at(3620), 0)
		ask(at(3640), at(3620), 0) // a majority has come to a stand
		ask(at(3650), at(3620), 20)
		ask(at(3650), at(3620), 30)
		ask(at(3650), at(3650), 0)
		ask(at(7000), bson.Timestamp{}, 0) // a mongos
		ask(at(7100), bson.Timestamp{}, 0)
		ask(at(7200), bson.Timestamp{}, 0)
	})
}

// Whoever knows a position tells of it while nobody is known to carry the stream, and leaves
// it to the one who does.
func TestWhoTellsOfAStream(t *testing.T) {
	away := func(lost bool) func() Unjoined { return from(time.Minute, errors.New("no broker answers"), lost) }
	for name, c := range map[string]struct {
		state    daemon.State
		owner    string
		unjoined func() Unjoined
		tells    bool
	}{
		"the owner":                              {daemon.Running, "self", from(0, nil, false), true},
		"a stand-by":                             {daemon.StandingBy, "two", from(0, nil, false), false},
		"a stand-by of a stream without owner":   {daemon.StandingBy, "", from(0, nil, false), true},
		"who has lost it with the group":         {daemon.StandingBy, "self", away(true), true},
		"a stand-by without the group":           {daemon.StandingBy, "two", away(false), true},
		"who waited already as the group went":   {daemon.Waiting, "self", away(true), true},
		"the owner, while the group is silent":   {daemon.Running, "self", away(false), true},
		"who has just handed it over to someone": {daemon.StandingBy, "self", from(0, nil, false), true},
	} {
		t.Run(name, func(t *testing.T) {
			now := uint32(time.Now().Unix())
			stream := &told{
				progress: daemon.Progress{Stream: "main", State: c.state, HasPosition: true, Seen: time.Now(), ClusterTime: bson.Timestamp{T: now - 100}, Handled: bson.Timestamp{T: now - 100}},
				window:   watcher.Window{Oldest: bson.Timestamp{T: now - 4000}, Newest: bson.Timestamp{T: now}},
			}
			owners := func(context.Context) (map[string]string, error) {
				if c.owner == "" {
					return map[string]string{}, nil
				}
				return map[string]string{"main": c.owner}, nil
			}
			sampler := NewSampler(func() []SampledStream { return []SampledStream{stream} }, owners, c.unjoined, "self", zap.NewNop())
			sampler.ask(t.Context())
			registry := NewRegistry()
			registry.MustRegister(NewMetrics("", "", sampler.Views, Counts{Unjoined: c.unjoined}))
			handler := New(Options{Hosts: []string{"example.com"}}, sampler.Views, registry, zap.NewNop()).handler()
			_, metrics := get(t, handler, "/metrics")
			_, status := get(t, handler, "/status")
			for metric, member := range map[string]string{
				"lag_seconds": `"lagSeconds":`, "position_age_seconds": `"positionAgeSeconds":`, "oplog_left_seconds": `"oplogLeftSeconds":3900`, "sample_age_seconds": `"sampleAgeSeconds":`,
			} {
				if strings.Contains(metrics, "\nfhir_cdc_"+metric+`{stream="main"}`) != c.tells {
					t.Errorf("%s: want it told: %v", metric, c.tells)
				}
				// The page shows a stand-by what the owner has stored, and how old that is.
				if !strings.Contains(status, member) || strings.Contains(status, `"seenAgeSeconds":`) == c.tells {
					t.Errorf("%s: /status says %s", metric, status)
				}
			}
		})
	}
}
