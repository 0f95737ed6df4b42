package daemon

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const (
	// commitTakes is how long a commit takes, testDelay the longest rest in these tests.
	commitTakes = 5 * time.Millisecond
	testDelay   = 50 * time.Millisecond
)

// lasting is Kafka whose commits take a time.
type lasting struct {
	recorder
	takes  time.Duration
	passed *[]passed
}

// passed is a commit of events that is done.
type passed struct {
	began, ended time.Time
	changes      int
}

func (p *lasting) Commit(ctx context.Context, b *publisher.Batch) error {
	began := time.Now()
	<-time.After(p.takes)
	if len(b.Events) > 0 {
		*p.passed = append(*p.passed, passed{began, time.Now(), b.Changes})
	}
	return p.recorder.Commit(ctx, b)
}

// paced is a stream whose commits take a time.
func paced(source Source, takes time.Duration, edit func(*Options, *Facts)) (*Stream, *kept, *[]passed) {
	k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
	var all []passed
	s := stream(source, nil, k, func(o *Options, f *Facts) {
		o.MaxDelay = testDelay
		if edit != nil {
			edit(o, f)
		}
	})
	s.parts.Publish = func() (Publisher, error) {
		return &lasting{recorder{k}, takes, &all}, nil
	}
	return s, k, &all
}

// steady are n changes, one in each interval.
func steady(t *testing.T, n int, interval time.Duration) (*timed, []string) {
	t.Helper()
	source := &timed{script: &script{fingerprint: "f"}}
	var ids []string
	for i := range n {
		source.changes, source.at = append(source.changes, consent(t, 10+i)), append(source.at, time.Now().Add(time.Duration(i)*interval))
		ids = append(ids, fmt.Sprint("c", 10+i))
	}
	return source, ids
}

// Under a steady load commits take a bounded share of the time, and no rest is longer than that
// asks for.
func TestCommitsTakeABoundedShareOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, ids := steady(t, 1000, time.Millisecond)
		s, k, all := paced(source, commitTakes, nil)
		if err := play(t, s, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := k.ids(); !slices.Equal(got, ids) {
			t.Fatalf("%d events, want %d in their order", len(got), len(ids))
		}
		if want := int(time.Second / (commitTakes * (1 + restFactor))); len(*all) > want+2 || len(*all) < want {
			t.Errorf("%d commits in a second, want %d", len(*all), want)
		}
		for i, c := range (*all)[1:] {
			if pause := c.began.Sub((*all)[i].ended); pause > restFactor*commitTakes {
				t.Errorf("a rest of %v", pause)
			}
		}
	})
}

// A rest is no longer than it may be, however lasting the commits are.
func TestRestIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, _ := steady(t, 1000, 2*time.Millisecond)
		s, _, all := paced(source, 100*ms, nil)
		if err := play(t, s, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		for i, c := range (*all)[1:] {
			if pause := c.began.Sub((*all)[i].ended); pause < testDelay-2*time.Millisecond || pause > testDelay {
				t.Errorf("a rest of %v, want %v", pause, testDelay)
			}
		}
	})
}

// Changes that come one by one go at once.
func TestIdleStreamDoesNotRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		source, _ := steady(t, 20, commitTakes*(1+restFactor))
		s, _, all := paced(source, commitTakes, nil)
		if err := play(t, s, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		if len(*all) != 20 {
			t.Fatalf("%d commits, want one of each change", len(*all))
		}
		for i, c := range *all {
			if late := c.began.Sub(start) - time.Duration(i)*commitTakes*(1+restFactor); late > 0 {
				t.Errorf("change %d waited %v", i, late)
			}
		}
	})
}

// A position that is stored while the stream is idle is followed by no rest.
func TestNoRestAfterAPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &spaced{script{fingerprint: "f", chunks: []watcher.Chunk{{Token: token(2)}, chunk(consent(t, 3))}}}
		s, _, all := paced(source, commitTakes, func(o *Options, _ *Facts) { o.IdleInterval = 0 })
		start := time.Now()
		if err := play(t, s, time.Second); err != nil {
			t.Fatal(err)
		}
		if len(*all) != 1 || (*all)[0].began.Sub(start) != spacing {
			t.Errorf("commits %v, want one at once", *all)
		}
	})
}

// A backlog is drained without a rest, in batches that do not exceed the bound.
func TestBacklogDoesNotRest(t *testing.T) {
	for name, most := range map[string]int{"many": 10_000, "few": 100} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := &script{fingerprint: "f"}
				for i := range 300 {
					var changes []bson.Raw
					for j := range 30 {
						changes = append(changes, consent(t, 10+30*i+j))
					}
					source.chunks = append(source.chunks, chunk(changes...))
				}
				s, k, all := paced(source, commitTakes, func(o *Options, _ *Facts) { o.MaxRecords, o.MaxBytes = most, 64<<20 })
				if err := play(t, s, 30*time.Second); err != nil {
					t.Fatal(err)
				}
				if n := len(k.ids()); n != 9000 {
					t.Fatalf("%d events", n)
				}
				for i, c := range *all {
					if c.changes >= most+30 {
						t.Errorf("a batch of %d changes, want %d at most", c.changes, most)
					}
					last := i == len(*all)-1
					if i > 0 && !last && !c.began.Equal((*all)[i-1].ended) {
						t.Errorf("a rest of %v before batch %d", c.began.Sub((*all)[i-1].ended), i)
					}
				}
			})
		})
	}
}

// A large batch does not rest: its records cost more than its transaction.
func TestLargeBatchDoesNotRest(t *testing.T) {
	for name, test := range map[string]struct {
		changes int
		bytes   int // of each change, that its event does not have
		edit    func(*Options, *Facts)
	}{
		"enough":                                 {enough, 0, func(o *Options, _ *Facts) { o.MaxRecords, o.MaxBytes = 10*enough, 64<<20 }},
		"max_records":                            {10, 0, func(o *Options, _ *Facts) { o.MaxRecords = 10 }},
		"max_bytes":                              {10, 0, func(o *Options, _ *Facts) { o.MaxBytes = 1000 }},
		"max_bytes of changes with small events": {10, 10_000, func(o *Options, _ *Facts) { o.MaxBytes = 100_000 }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				source := &spaced{script{fingerprint: "f"}}
				for i := range 5 {
					var changes []bson.Raw
					for j := range test.changes {
						n := 10 + i*test.changes + j
						changes = append(changes, enlarged(t, n, consent(t, n), test.bytes))
					}
					source.chunks = append(source.chunks, chunk(changes...))
				}
				s, _, all := paced(source, commitTakes, test.edit)
				if err := play(t, s, time.Second); err != nil {
					t.Fatal(err)
				}
				for i, c := range *all {
					if c.changes != test.changes || c.began.Sub(start) != time.Duration(i)*spacing {
						t.Errorf("batch %d of %d changes after %v", i, c.changes, c.began.Sub(start))
					}
				}
			})
		})
	}
}

// A batch that begins with changes that have waited was read when the first of those that it has
// read was.
func TestNextIsReadWhenItsFirstIs(t *testing.T) {
	began := time.Unix(1000, 0)
	var n next
	for i := range 3 {
		b := &publisher.Batch{Events: make([]mapper.Event, 1)}
		if i > 0 { // One that was looked for alone has no time.
			at := began.Add(time.Duration(i) * time.Second)
			b.Read, b.Map, b.Mapped = at, at.Add(ms), at.Add(2*ms)
		}
		n.add(b)
	}
	if at := began.Add(time.Second); !n.Read.Equal(at) || !n.Map.Equal(at.Add(ms)) || !n.Mapped.Equal(at.Add(2*ms)) {
		t.Errorf("read at %v, mapped from %v to %v, want %v first", n.Read, n.Map, n.Mapped, at)
	}
}

// The end of a stream and a pause do not wait for the end of a rest.
func TestEndDoesNotRest(t *testing.T) {
	for name, end := range map[string]func(s *Stream, cancel context.CancelFunc){
		"stop":  func(_ *Stream, cancel context.CancelFunc) { cancel() },
		"pause": func(s *Stream, _ context.CancelFunc) { s.Pause() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source, ids := steady(t, 2, commitTakes)
				s, k, all := paced(source, time.Minute, func(o *Options, _ *Facts) { o.MaxDelay, o.DrainTimeout = time.Hour, time.Hour })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx) }()
				<-time.After(90 * time.Second) // half a minute into a rest of six
				synctest.Wait()
				if got := k.ids(); !slices.Equal(got, ids[:1]) {
					t.Fatalf("events %v, want the first alone", got)
				}
				at := time.Now()
				end(s, cancel)
				<-time.After(2 * time.Minute)
				synctest.Wait()
				if got := k.ids(); !slices.Equal(got, ids) || !(*all)[1].began.Equal(at) {
					t.Errorf("events %v in commits %v, want the second at once", got, *all)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A change that waits for its history is looked for, and given up, at its time and not after the
// rest; it goes with the rest's other changes.
func TestWhatWaitsIsLookedForDuringARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		h := &histories{from: map[string]time.Time{"first/1": start, "late/1": start.Add(11500 * ms), "last/1": start}}
		source := &timed{script: &script{fingerprint: "f"}}
		for i, id := range []string{"first", "late", "never", "last"} {
			at := start.Add(11 * time.Second)
			switch id {
			case "first":
				at = start
			case "last":
				at = start.Add(11100 * ms)
			}
			source.changes, source.at = append(source.changes, put(t, 10+i, id, 1)), append(source.at, at)
		}
		s, k, all := paced(source, 10*time.Second, func(o *Options, f *Facts) { o.MaxDelay, f.RequestIDs = time.Hour, h })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		<-time.After(13 * time.Second)
		synctest.Wait()
		if h.gaveUp != 1 {
			t.Errorf("%d given up during the rest, want 1", h.gaveUp)
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if got, want := k.ids(), []string{"first", "last", "late", "never"}; !slices.Equal(got, want) || len(k.position.Published) > 0 {
			t.Errorf("events %v, want %v; %d runs ahead", got, want, len(k.position.Published))
		}
		if len(*all) != 2 || (*all)[1].began.Sub(start) != 10*time.Second*(1+restFactor) {
			t.Errorf("commits %v, want the second after the rest", *all)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// spacing is a little longer than a commit.
const spacing = commitTakes + ms

// spaced plays chunks with a pause after each.
type spaced struct{ script }

func (s *spaced) Run(ctx context.Context, _ watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	for _, c := range s.chunks {
		if err := emit(ctx, c); err != nil {
			return err
		}
		<-time.After(spacing)
	}
	<-ctx.Done()
	return nil
}

// Progress does not tell that a change is handled while its event is kept back.
func TestKeptBackIsNotHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &spaced{script{fingerprint: "f", chunks: []watcher.Chunk{
			chunk(consent(t, 10)), chunk(consent(t, 11)), {Token: token(12)}, {Token: token(13)},
		}}}
		s, k, _ := paced(source, commitTakes, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		<-time.After(24 * ms)
		synctest.Wait()
		if p := s.Progress(); p.Handled.T != 10 {
			t.Errorf("handled up to %d during the rest, want 10", p.Handled.T)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if p := s.Progress(); p.Handled.T != 13 || len(k.ids()) != 2 {
			t.Errorf("handled up to %d, events %v", p.Handled.T, k.ids())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
