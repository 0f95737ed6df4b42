package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// outage is a source that gives a chunk each second, but for the time that it is away:
// then it breaks every two seconds, or hangs.
type outage struct {
	script
	away, back time.Time
	hangs      bool
	broke      func(error)
}

func (o *outage) Run(ctx context.Context, _ watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	for n := 2; ; n++ {
		pause := time.Second
		switch now := time.Now(); {
		case !now.Before(o.away) && now.Before(o.back) && o.hangs:
			pause = o.back.Sub(now)
		case !now.Before(o.away) && now.Before(o.back):
			pause = 2 * time.Second
		default:
			if err := emit(ctx, watcher.Chunk{Token: token(n)}); err != nil {
				return err
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if pause != time.Second {
			o.broke(errors.New("connection refused"))
		}
	}
}

// While MongoDB is away, an error is no answer: it is told since when one is due, and how
// old the last one is, until there is one again.
func TestUnanswered(t *testing.T) {
	for name, hangs := range map[string]bool{"breaks": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				source := &outage{script: script{fingerprint: "f"}, away: began.Add(10 * time.Second), back: began.Add(70 * time.Second), hangs: hangs}
				k := &kept{position: resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f"}}
				s := stream(source, nil, k, func(o *Options, _ *Facts) { o.AnswerLimits.Read = time.Second })
				source.broke = s.Broke
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx) }()
				for _, c := range []struct{ at, low, high, age time.Duration }{
					{5, 0, 0, 1}, {30, 18, 21, 22}, {69, 57, 60, 61}, {75, 0, 0, 2},
				} {
					<-time.After(time.Until(began.Add(c.at*time.Second + time.Second/2)))
					p := s.Progress()
					now := time.Now()
					if due := p.Unanswered(now); p.State != Running || due < c.low*time.Second || due > c.high*time.Second {
						t.Errorf("after %d s: %s, an answer has been due for %v", c.at, p.State, due)
					}
					if age := now.Sub(p.Read); age > c.age*time.Second || age < (c.low-1)*time.Second {
						t.Errorf("after %d s the last answer is %v old", c.at, age)
					}
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if due := s.progress.now.Unanswered(time.Now().Add(time.Hour)); due != 0 {
					t.Errorf("nothing is asked any more, and an answer has been due for %v", due)
				}
			})
		})
	}
}

// A stream that is told to stop, and waits for Kafka to take the rest, waits for Kafka.
func TestNothingIsDueFromMongoDB(t *testing.T) {
	p := newProgress("main", AnswerLimits{}, nil)
	p.state(Running)
	p.broke(errors.New("connection refused"))
	p.read(true)
	hour := time.Now().Add(time.Hour)
	if due := p.now.Unanswered(hour); due != 0 {
		t.Errorf("reading waits for Kafka, and an answer of MongoDB has been due for %v", due)
	}
	p.read(false)
	p.broke(errors.New("connection refused"))
	if due := p.now.Unanswered(hour); due < time.Hour-time.Minute {
		t.Errorf("an answer has been due for %v", due)
	}
	p.ended()
	if due := p.now.Unanswered(hour); due != 0 {
		t.Errorf("reading is over, and an answer has been due for %v", due)
	}
	p.broke(errors.New("connection refused"))
	p.state(Paused)
	if due := p.now.Unanswered(hour); due != 0 {
		t.Errorf("the stream is paused, and an answer has been due for %v", due)
	}
}
