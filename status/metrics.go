package status

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fhir-cdc/fhir-cdc/daemon"
)

// Lookup counts the answers to one sort of question for facts.
type Lookup struct {
	// Fact names the fact: request_id, bwell_person, managing_organization.
	Fact string
	// Asked counts all answers, Missed the empty ones.
	Asked, Missed uint64
}

// Counts are the counts of other packages; a nil function counts nothing.
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
	table   []Definition
	descs   []*prometheus.Desc
}

// NewMetrics returns the collector of fhir_cdc_* of the installation of a name.
func NewMetrics(name, version string, views func() []View, counts Counts) *Metrics {
	m := &Metrics{name: name, version: version, views: views, counts: counts, now: time.Now, table: Definitions()}
	for _, d := range m.table {
		m.descs = append(m.descs, d.desc())
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
	s := scrape{Metrics: m, now: m.now(), views: m.views(), ch: ch}
	if m.counts.Lookups != nil {
		s.lookups = m.counts.Lookups()
	}
	for i, d := range m.table {
		s.desc, s.valueType = m.descs[i], prometheus.GaugeValue
		if d.Type == counter {
			s.valueType = prometheus.CounterValue
		}
		d.collect(&s)
	}
}

// scrape is one answer to one scrape.
type scrape struct {
	*Metrics
	now     time.Time
	views   []View
	lookups []Lookup
	ch      chan<- prometheus.Metric
	// desc and valueType belong to the metric that is being collected.
	desc      *prometheus.Desc
	valueType prometheus.ValueType
}

func (s *scrape) tell(v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.desc, s.valueType, v, labels...)
}

// tellKnown tells a stream's value if it is known, and not another process's to tell.
func (s *scrape) tellKnown(v View, value *float64) {
	if value != nil && v.told() {
		s.tell(*value, v.Stream)
	}
}

// tellRepair tells a figure of a repair that this process carries out.
func (s *scrape) tellRepair(v View, figure func(*daemon.RepairProgress) float64) {
	if v.Repair != nil && v.State == daemon.Repairing {
		s.tell(figure(v.Repair), v.Stream)
	}
}

// tellEach tells a stream's counts by a label.
func tellEach[L ~string](s *scrape, v View, counts map[L]uint64) {
	for label, n := range counts {
		s.tell(float64(n), v.Stream, string(label))
	}
}

func (s *scrape) tellHistogram(v View, h daemon.Histogram) {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var total uint64
	for i, n := range h.Counts {
		total += n
		if i < len(h.Bounds) {
			buckets[h.Bounds[i]] = total
		}
	}
	s.ch <- prometheus.MustNewConstHistogram(s.desc, total, h.Sum, buckets, v.Stream)
}

// unjoined is how long this process has been out of the group of replicas: because the group
// keeps it out if refuses is true, else because the group does not answer.
func (s *scrape) unjoined(refuses bool) float64 {
	if s.counts.Unjoined == nil {
		return 0
	}
	u := s.counts.Unjoined()
	if u.Why == nil || u.Refuses != refuses {
		return 0
	}
	return max(0, s.now.Sub(u.Since).Seconds())
}

// truth is 1 for true.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// NewRegistry returns a registry with Go's metrics and the process's.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Replacing registers metrics that come and go with their clients. A metric that is
// registered again replaces its predecessor; a plain registry would panic.
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
