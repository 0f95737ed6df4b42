package status

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fhir-cdc/fhir-cdc/daemon"
)

// Metrics collects the streams' progress when it is asked, so that the hot path
// counts once. Every series exists from the start: an alert on a rate works for the
// first event too.
type Metrics struct {
	streams func() []daemon.Progress
	now     func() time.Time

	state, events, deadLetters, commits, interruptions, reopenings, positionAge, readAge *prometheus.Desc
}

// NewMetrics returns the collector of fhir_cdc_*.
func NewMetrics(streams func() []daemon.Progress) *Metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("fhir_cdc_"+name, help, append([]string{"stream"}, labels...), nil)
	}
	return &Metrics{
		streams: streams, now: time.Now,
		state:         desc("stream_state", "1 for the state that the stream is in, 0 for the others.", "state"),
		events:        desc("events_total", "Events committed by this process.", "kind"),
		deadLetters:   desc("dead_letters_total", "Events that could not be produced and were recorded in the dead-letter topic.", "kind"),
		commits:       desc("commits_total", "Batches and positions committed by this process."),
		interruptions: desc("interruptions_total", "Times that the stream went back to its stored position after an error."),
		reopenings:    desc("reopenings_total", "Times that the change stream broke and was opened again in place."),
		positionAge:   desc("position_age_seconds", "Age of the oplog time of the committed position. An idle stream's grows to checkpoint.idle_interval and falls back."),
		readAge:       desc("read_age_seconds", "Time since MongoDB last answered the stream, with changes or without."),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.events, m.deadLetters, m.commits, m.interruptions, m.reopenings, m.positionAge, m.readAge} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	now := m.now()
	for _, p := range m.streams() {
		send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, append([]string{p.Stream}, labels...)...)
		}
		for _, s := range daemon.States() {
			v := 0.0
			if p.State == s {
				v = 1
			}
			send(m.state, prometheus.GaugeValue, v, string(s))
		}
		for kind, n := range p.Events {
			send(m.events, prometheus.CounterValue, float64(n), string(kind))
		}
		for kind, n := range p.DeadLetters {
			send(m.deadLetters, prometheus.CounterValue, float64(n), string(kind))
		}
		send(m.commits, prometheus.CounterValue, float64(p.Commits))
		send(m.interruptions, prometheus.CounterValue, float64(p.Interruptions))
		send(m.reopenings, prometheus.CounterValue, float64(p.Reopenings))
		if p.ClusterTime.T > 0 {
			send(m.positionAge, prometheus.GaugeValue, now.Sub(time.Unix(int64(p.ClusterTime.T), 0)).Seconds())
		}
		if !p.Read.IsZero() {
			send(m.readAge, prometheus.GaugeValue, now.Sub(p.Read).Seconds())
		}
	}
}

// NewRegistry returns a registry with the streams' metrics, Go's and the process's.
func NewRegistry(streams func() []daemon.Progress) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(NewMetrics(streams), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
