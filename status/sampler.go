package status

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const (
	// rateInterval is the time that one point of the chart stands for, ratePoints how
	// many there are: five minutes.
	rateInterval = 2 * time.Second
	ratePoints   = 150
	// askInterval is how often the servers are asked; askTimeout bounds a question.
	askInterval = 10 * time.Second
	askTimeout  = 5 * time.Second
)

// Stream is what is sampled; *daemon.Stream is one.
type Stream interface {
	Progress() daemon.Progress
	Window(ctx context.Context) (watcher.Window, error)
}

// Sampler keeps what a stream does not tell of itself: events a second, the oplog's
// span, and who carries the streams of other replicas.
type Sampler struct {
	streams func() []Stream
	// owners names the instance that carries each stream; nil where there are no
	// replicas.
	owners func(ctx context.Context) (map[string]string, error)
	// unjoined tells whether the group of replicas is lost; nil where there is none.
	unjoined func() Unjoined
	// instance is this process.
	instance string
	log      *zap.Logger

	mu      sync.Mutex
	windows map[string]watcher.Window
	rates   map[string]*series
	owned   map[string]string
}

// series are the rates of one stream.
type series struct {
	total  uint64
	at     time.Time
	points []float64
}

// NewSampler returns a Sampler. streams may return none for a while.
func NewSampler(streams func() []Stream, owners func(ctx context.Context) (map[string]string, error), unjoined func() Unjoined, instance string, log *zap.Logger) *Sampler {
	return &Sampler{
		streams: streams, owners: owners, unjoined: unjoined, instance: instance, log: log,
		windows: map[string]watcher.Window{}, rates: map[string]*series{}, owned: map[string]string{},
	}
}

// Run samples until ctx ends.
func (s *Sampler) Run(ctx context.Context) {
	var g errgroup.Group
	g.Go(func() error { return every(ctx, rateInterval, func() { s.rate(time.Now()) }) })
	g.Go(func() error { return every(ctx, askInterval, func() { s.ask(ctx) }) })
	_ = g.Wait() // They end with ctx.
}

// every calls do at once and then at intervals until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		do()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// rate adds a point to each stream's chart.
func (s *Sampler) rate(now time.Time) {
	for _, stream := range s.streams() {
		p := stream.Progress()
		var total uint64
		for _, n := range p.Events {
			total += n
		}
		s.mu.Lock()
		// A stream that is made anew counts from 0 again.
		if r := s.rates[p.Stream]; r == nil || total < r.total {
			s.rates[p.Stream] = &series{total: total, at: now}
		} else if elapsed := now.Sub(r.at).Seconds(); elapsed > 0 {
			r.points = append(r.points, float64(total-r.total)/elapsed)
			r.points = r.points[max(0, len(r.points)-ratePoints):]
			r.total, r.at = total, now
		}
		s.mu.Unlock()
	}
}

// ask asks MongoDB for the oplog's span and the group for the streams' owners. What
// does not answer keeps its last answer: that the server is away shows elsewhere.
func (s *Sampler) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, stream := range s.streams() {
		p := stream.Progress()
		if p.ClusterTime.T == 0 || p.State == daemon.StandingBy {
			continue
		}
		window, err := stream.Window(ctx)
		if err != nil {
			s.log.Debug("MongoDB was not asked for the oplog's span", zap.String("stream", p.Stream), zap.Error(err))
			continue
		}
		s.mu.Lock()
		s.windows[p.Stream] = window
		s.mu.Unlock()
	}
	if s.owners == nil {
		return
	}
	owned, err := s.owners(ctx)
	if err != nil {
		s.log.Debug("the replicas' group was not asked for owners", zap.Error(err))
		return
	}
	s.mu.Lock()
	s.owned = maps.Clone(owned)
	s.mu.Unlock()
}

// Views are all streams as they are now.
func (s *Sampler) Views() []View {
	streams := s.streams()
	views := make([]View, 0, len(streams))
	for _, stream := range streams {
		v := View{Progress: stream.Progress()}
		// Asked after the stream: it stands by only when the group is known to be lost.
		var unjoined Unjoined
		if s.unjoined != nil {
			unjoined = s.unjoined()
		}
		s.mu.Lock()
		v.Window = s.windows[v.Stream]
		if r := s.rates[v.Stream]; r != nil {
			v.Rates = append([]float64{}, r.points...)
		}
		switch v.Owner = s.owned[v.Stream]; {
		case v.carried() && v.State != daemon.Stopped:
			v.Owner = s.instance
		case v.Owner == s.instance && !v.carried():
			v.Owner = "" // The group's answer is older than the stream's end here.
		}
		s.mu.Unlock()
		views = append(views, v.within(unjoined, time.Now()))
	}
	return views
}
