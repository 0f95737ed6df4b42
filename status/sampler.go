package status

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const (
	// askInterval is how often the servers are asked; askTimeout bounds a question.
	askInterval = 10 * time.Second
	askTimeout  = 5 * time.Second
	// fresh is the greatest age of an answer while MongoDB answers.
	fresh = askInterval + askTimeout
)

// SampledStream is a stream that the Sampler asks about; *daemon.Stream is one.
type SampledStream interface {
	Progress() daemon.Progress
	Window(ctx context.Context) (watcher.Window, error)
}

// Sampler finds out the values that a stream does not count itself: events a second, the
// oplog's span, and the owners of the streams of other replicas.
type Sampler struct {
	streams func() []SampledStream
	// owners names the instance that carries each stream; nil without replicas.
	owners func(ctx context.Context) (map[string]string, error)
	// unjoined tells whether the group of replicas is lost; nil without a group.
	unjoined func() Unjoined
	// instance is this process.
	instance string
	log      *zap.Logger

	mu      sync.Mutex
	samples map[string]sample
	hours   map[string]*hour
	owned   map[string]string
}

// sample is an answer of MongoDB about a stream's oplog; at is when it was asked for.
type sample struct {
	window watcher.Window
	at     time.Time
	// write was the newest write at the time seen; it stays until a majority has it. A single
	// answer does not show a missing majority: after a quiet time, the newest write is far ahead
	// of the majority's until it is replicated.
	write bson.Timestamp
	seen  time.Time
}

// next is the sample of the next answer.
func (s sample) next(window watcher.Window, asked time.Time) sample {
	next := sample{window: window, at: asked, write: s.write, seen: s.seen}
	if !s.write.After(window.Committed) || window.Committed.IsZero() {
		next.write, next.seen = window.Newest, asked
	}
	return next
}

// NewSampler returns a Sampler. streams may return none for a while.
func NewSampler(streams func() []SampledStream, owners func(ctx context.Context) (map[string]string, error), unjoined func() Unjoined, instance string, log *zap.Logger) *Sampler {
	return &Sampler{
		streams: streams, owners: owners, unjoined: unjoined, instance: instance, log: log,
		samples: map[string]sample{}, hours: map[string]*hour{}, owned: map[string]string{},
	}
}

// Run samples until ctx ends.
func (s *Sampler) Run(ctx context.Context) {
	var g errgroup.Group
	g.Go(func() error { return every(ctx, tick, func() { s.count(time.Now()) }) })
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

// count adds a tick to each stream's hour.
func (s *Sampler) count(now time.Time) {
	for _, v := range s.Views() {
		s.mu.Lock()
		if h := s.hours[v.Stream]; h == nil {
			s.hours[v.Stream] = newHour(v, now)
		} else {
			h.add(v, now)
		}
		s.mu.Unlock()
	}
}

// ask asks MongoDB for each stream's oplog and the group for the streams' owners, all at
// once, so that a server that hangs does not hold up the others' answers. It asks about a
// stand-by's oplog too: the group may be lost at any time, and then the stand-by shows the stream.
// If a server does not answer, its last answer stays, and grows old.
func (s *Sampler) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var asking sync.WaitGroup
	for _, stream := range s.streams() {
		if p := stream.Progress(); p.ClusterTime.T > 0 {
			asking.Go(func() { s.askMongoDB(ctx, p.Stream, stream) })
		}
	}
	if s.owners != nil {
		asking.Go(func() { s.askGroup(ctx) })
	}
	asking.Wait()
}

func (s *Sampler) askMongoDB(ctx context.Context, name string, stream SampledStream) {
	asked := time.Now()
	window, err := stream.Window(ctx)
	if err != nil {
		s.log.Debug("MongoDB was not asked for the oplog's span", zap.String("stream", name), zap.Error(err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples[name] = s.samples[name].next(window, asked)
}

func (s *Sampler) askGroup(ctx context.Context) {
	owned, err := s.owners(ctx)
	if err != nil {
		s.log.Debug("the replicas' group was not asked for owners", zap.Error(err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned = maps.Clone(owned)
}

// Views are the present views of all streams.
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
		last := s.samples[v.Stream]
		v.Window, v.Sampled, v.Uncommitted = last.window, last.at, last.at.Sub(last.seen)
		if h := s.hours[v.Stream]; h != nil {
			v.Hour = h.view()
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
