package status

import (
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fhir-cdc/fhir-cdc/daemon"
)

// Lookup counts the answers to one sort of question for facts.
type Lookup struct {
	// Fact is what was looked up: request_id, bwell_person, managing_organization.
	Fact string
	// Asked counts all answers, Missed those that held nothing.
	Asked, Missed uint64
}

// Counts are what is counted elsewhere; a nil function counts nothing.
type Counts struct {
	Lookups func() []Lookup
	// Logged counts the lines logged by level.
	Logged func() map[string]uint64
	// Refused is why other replicas do not share the streams with this process.
	Refused func() string
	// Unjoined is what keeps this process out of the group of replicas.
	Unjoined func() Unjoined
}

// Metrics collects the streams' progress when it is asked, so that the hot path
// counts once for each batch. Every series exists from the start: an alert on a rate
// works for the first event too.
type Metrics struct {
	name    string
	version string
	views   func() []View
	counts  Counts
	now     func() time.Time
	descs   map[string]*prometheus.Desc
}

// NewMetrics returns the collector of fhir_cdc_* of the installation of a name.
func NewMetrics(name, version string, views func() []View, counts Counts) *Metrics {
	m := &Metrics{name: name, version: version, views: views, counts: counts, now: time.Now, descs: map[string]*prometheus.Desc{}}
	for _, d := range definitions() {
		m.descs[d.name] = d.desc()
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	c := collection{m.descs, ch}
	c.gauge("build_info", 1, m.name, m.version, runtime.Version())
	refused := 0.0
	if m.counts.Refused != nil && m.counts.Refused() != "" {
		refused = 1
	}
	c.gauge("replica_refused", refused)
	now := m.now()
	away, out := 0.0, 0.0
	if m.counts.Unjoined != nil {
		switch u := m.counts.Unjoined(); {
		case u.Why == nil:
		case u.Refuses:
			out = max(0, now.Sub(u.Since).Seconds())
		default:
			away = max(0, now.Sub(u.Since).Seconds())
		}
	}
	c.gauge("group_away_seconds", away)
	c.gauge("group_out_seconds", out)
	for _, v := range m.views() {
		c.stream(v, now)
	}
	if m.counts.Lookups != nil {
		for _, l := range m.counts.Lookups() {
			c.counter("lookups_total", l.Asked, l.Fact)
			c.counter("lookups_missed_total", l.Missed, l.Fact)
		}
	}
	if m.counts.Logged != nil {
		for level, n := range m.counts.Logged() {
			c.counter("log_messages_total", n, level)
		}
	}
}

// collection is one answer to one scrape.
type collection struct {
	descs map[string]*prometheus.Desc
	ch    chan<- prometheus.Metric
}

func (c collection) gauge(name string, v float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v, labels...)
}

func (c collection) counter(name string, n uint64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, float64(n), labels...)
}

func (c collection) histogram(name string, h daemon.Histogram, labels ...string) {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var total uint64
	for i, n := range h.Counts {
		total += n
		if i < len(h.Bounds) {
			buckets[h.Bounds[i]] = total
		}
	}
	c.ch <- prometheus.MustNewConstHistogram(c.descs[name], total, h.Sum, buckets, labels...)
}

func (c collection) stream(v View, now time.Time) {
	p := v.Progress
	for _, s := range daemon.States() {
		on := 0.0
		if p.State == s {
			on = 1
		}
		c.gauge("stream_state", on, p.Stream, string(s))
	}
	for t, n := range p.Events {
		c.counter("events_total", n, p.Stream, string(t.Kind), string(t.Action))
	}
	for kind, n := range p.DeadLetters {
		c.counter("dead_letters_total", n, p.Stream, string(kind))
	}
	for cause, n := range p.Reopenings {
		c.counter("reopenings_total", n, p.Stream, string(cause))
	}
	c.counter("commits_total", p.Commits, p.Stream)
	c.counter("interruptions_total", p.Interruptions, p.Stream)
	c.counter("fenced_total", p.Fenced, p.Stream)
	c.gauge("open_cursors", float64(p.OpenCursors), p.Stream)
	c.gauge("read_pending_seconds", v.readPending(now).Seconds(), p.Stream)
	c.gauge("commit_pending_seconds", v.commitPending(now).Seconds(), p.Stream)
	for name, seconds := range map[string]*float64{
		"lag_seconds": v.lag(now), "position_age_seconds": v.positionAge(now), "oplog_left_seconds": v.oplogLeft(), "read_age_seconds": v.readAge(now),
	} {
		if seconds != nil {
			c.gauge(name, *seconds, p.Stream)
		}
	}
	for name, h := range map[string]daemon.Histogram{
		"commit_seconds": p.CommitSeconds, "end_to_end_seconds": p.EndToEndSeconds, "batch_events": p.BatchEvents, "batch_bytes": p.BatchBytes,
	} {
		c.histogram(name, h, p.Stream)
	}
}

// NewRegistry returns a registry with Go's metrics and the process's.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Replacing registers metrics that come and go with the clients that they tell of.
// One that is registered again takes the place of its predecessor, rather than being
// a programmer's error that ends the process.
type Replacing struct{ prometheus.Registerer }

// Register implements prometheus.Registerer.
func (r Replacing) Register(c prometheus.Collector) error {
	err := r.Registerer.Register(c)
	if there, ok := err.(prometheus.AlreadyRegisteredError); ok { //nolint:errorlint // the registry returns it as it is.
		r.Registerer.Unregister(there.ExistingCollector)
		err = r.Registerer.Register(c)
	}
	if err != nil {
		return fmt.Errorf("register metric: %w", err)
	}
	return nil
}

// MustRegister implements prometheus.Registerer. A metric that does not fit is left
// out: the events matter more.
func (r Replacing) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = r.Register(c)
	}
}

// Unregister takes c away, unless another has taken its place.
func (r Replacing) Unregister(c prometheus.Collector) bool {
	err := r.Registerer.Register(c)
	if there, ok := err.(prometheus.AlreadyRegisteredError); ok && there.ExistingCollector != c { //nolint:errorlint // the registry returns it as it is.
		return false
	}
	return r.Registerer.Unregister(c)
}
