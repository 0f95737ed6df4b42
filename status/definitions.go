package status

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-cdc/fhir-cdc/daemon"
)

// Namespace begins the name of every metric of the daemon's own.
const Namespace = "fhir_cdc_"

// metricType is a metric's type as Prometheus names it.
type metricType string

const (
	counter   metricType = "counter"
	gauge     metricType = "gauge"
	histogram metricType = "histogram"
)

// Definition is one metric: its description in /metrics and docs/metrics.md, and its values.
type Definition struct {
	// Name is the name without the Namespace.
	Name string
	Type metricType
	// Labels are the names of its labels.
	Labels []string
	// Help is the description.
	Help    string
	collect func(s *scrape)
}

func (d Definition) desc() *prometheus.Desc {
	return prometheus.NewDesc(Namespace+d.Name, d.Help, d.Labels, nil)
}

// perStream defines a metric that each stream has.
func perStream(name string, kind metricType, labels []string, help string, collect func(s *scrape, v View)) Definition {
	return Definition{name, kind, append([]string{"stream"}, labels...), help, func(s *scrape) {
		for _, v := range s.views {
			collect(s, v)
		}
	}}
}

// Definitions is the table of all metrics of the daemon's own, in the order of the
// documentation.
func Definitions() []Definition {
	return []Definition{
		{"build_info", gauge, []string{"name", "version", "goversion"}, "1, with the key name, the program's version and Go's.", func(s *scrape) { s.tell(1, s.name, s.version, runtime.Version()) }},
		{"replica_refused", gauge, nil, "1 while replicas with another configuration share the streams, so that this process cannot take over.", func(s *scrape) { s.tell(truth(s.counts.Refused != nil && s.counts.Refused() != "")) }},
		{"group_away_seconds", gauge, nil, "Time since the group's coordinator last answered, while an answer is overdue. 0 in the group, and with replicas: none.", func(s *scrape) { s.tell(s.unjoined(false)) }},
		{"group_out_seconds", gauge, nil, "Time since this process was last in the group, while the coordinator answers and keeps it out. Else 0.", func(s *scrape) { s.tell(s.unjoined(true)) }},
		perStream("stream_state", gauge, []string{"state"}, "1 for the stream's state at this process, 0 for the others.", func(s *scrape, v View) {
			for _, state := range daemon.States() {
				s.tell(truth(v.State == state), v.Stream, string(state))
			}
		}),
		perStream("events_total", counter, []string{"kind", "action"}, "Events committed by this process; action is create, update or delete.", func(s *scrape, v View) {
			for t, n := range v.Events {
				s.tell(float64(n), v.Stream, string(t.Kind), string(t.Action))
			}
		}),
		perStream("dead_letters_total", counter, []string{"kind"}, "Events that could not be produced, in the dead-letter topic.", func(s *scrape, v View) { tellEach(s, v, v.DeadLetters) }),
		perStream("resource_events_total", counter, []string{"resource_type"}, "Those of events_total by resource type; of access logs and AuditEvents by collection.", func(s *scrape, v View) { tellEach(s, v, v.Resources) }),
		perStream("dead_letter_reasons_total", counter, []string{"kind", "reason"}, "Those of dead_letters_total by reason, each from its first on.", func(s *scrape, v View) {
			for r, n := range v.Reasons {
				s.tell(float64(n), v.Stream, string(r.Kind), r.Text)
			}
		}),
		perStream("commits_total", counter, nil, "Batches and positions committed by this process.", func(s *scrape, v View) { s.tell(float64(v.Commits), v.Stream) }),
		perStream("interruptions_total", counter, nil, "Returns to the stored position after an error.", func(s *scrape, v View) { s.tell(float64(v.Interruptions), v.Stream) }),
		perStream("fenced_total", counter, nil, "Streams taken over by another process while this one carried them.", func(s *scrape, v View) { s.tell(float64(v.Fenced), v.Stream) }),
		perStream("reopenings_total", counter, []string{"cause"}, "Times that the change stream broke and was opened again in place.", func(s *scrape, v View) { tellEach(s, v, v.Reopenings) }),
		perStream("collections_gone_total", counter, []string{"operation"}, "Watched collections or databases that were dropped, renamed or replaced, and invalidations.", func(s *scrape, v View) { tellEach(s, v, v.Wholes) }),
		perStream("repair_documents", gauge, nil, "Documents of the collection that a repair is scanning, about. Not there without a repair here.", func(s *scrape, v View) {
			s.tellRepair(v, func(r *daemon.RepairProgress) float64 { return float64(r.Total) })
		}),
		perStream("repair_scanned_documents", gauge, nil, "Those of repair_documents that the repair has looked at.", func(s *scrape, v View) {
			s.tellRepair(v, func(r *daemon.RepairProgress) float64 { return float64(r.Scanned) })
		}),
		perStream("repair_left_seconds", gauge, nil, "Time that the rest of repair_documents takes at the present rate; 0 while that is not known.", func(s *scrape, v View) {
			s.tellRepair(v, func(r *daemon.RepairProgress) float64 { return r.Left.Seconds() })
		}),
		perStream("open_cursors", gauge, nil, "Cursors open on MongoDB for the stream; 1 while it runs.", func(s *scrape, v View) { s.tell(float64(v.OpenCursors), v.Stream) }),
		perStream("lag_seconds", gauge, nil, "Time from the position to the cluster's newest operation, asked every 10 s. While MongoDB does not answer, the cluster counts as going on, so it may be less.", func(s *scrape, v View) { s.tellKnown(v, v.lag(s.now)) }),
		perStream("position_age_seconds", gauge, nil, "Age of the stored position. An idle stream's grows to checkpoint.idle_interval and falls back.", func(s *scrape, v View) { s.tellKnown(v, v.positionAge(s.now)) }),
		perStream("oplog_left_seconds", gauge, nil, "Time from the oplog's oldest entry to the position, asked every 10 s: at 0 changes are lost. Not there before the oplog is full, without find on local.oplog.rs, and on a sharded cluster.", func(s *scrape, v View) { s.tellKnown(v, v.oplogLeft()) }),
		perStream("sample_age_seconds", gauge, nil, "Age of the answer behind lag_seconds and oplog_left_seconds: some 10 s, more while MongoDB does not answer.", func(s *scrape, v View) { s.tellKnown(v, v.sampleAge(s.now)) }),
		perStream("read_age_seconds", gauge, nil, "Time since MongoDB last answered the stream; an error is no answer. It grows while the stream is paused or waits for Kafka. Not there on a stand-by.", func(s *scrape, v View) { s.tellKnown(v, v.readAge(s.now)) }),
		perStream("read_pending_seconds", gauge, nil, "Time that an answer of MongoDB has been due; 0 while nothing is asked.", func(s *scrape, v View) { s.tell(v.readPending(s.now).Seconds(), v.Stream) }),
		perStream("commit_pending_seconds", gauge, nil, "Time that the commit under way has waited for Kafka; 0 between commits.", func(s *scrape, v View) { s.tell(v.commitPending(s.now).Seconds(), v.Stream) }),
		perStream("commit_seconds", histogram, nil, "Duration of a commit of a batch with events.", func(s *scrape, v View) { s.tellHistogram(v, v.CommitSeconds) }),
		perStream("end_to_end_seconds", histogram, nil, "Time from a change in MongoDB to the commit of its event.", func(s *scrape, v View) { s.tellHistogram(v, v.EndToEndSeconds) }),
		perStream("batch_events", histogram, nil, "Events of a batch that had any.", func(s *scrape, v View) { s.tellHistogram(v, v.BatchEvents) }),
		perStream("batch_bytes", histogram, nil, "Bytes (keys, values, headers) of a batch that had events.", func(s *scrape, v View) { s.tellHistogram(v, v.BatchBytes) }),
		{"lookups_total", counter, []string{"fact"}, "Facts looked up in MongoDB: request_id, bwell_person, managing_organization.", func(s *scrape) {
			for _, l := range s.lookups {
				s.tell(float64(l.Asked), l.Fact)
			}
		}},
		{"lookups_missed_total", counter, []string{"fact"}, "Facts of lookups_total that were not found; the event goes out without them.", func(s *scrape) {
			for _, l := range s.lookups {
				s.tell(float64(l.Missed), l.Fact)
			}
		}},
		{"log_messages_total", counter, []string{"level"}, "Lines logged.", func(s *scrape) {
			if s.counts.Logged == nil {
				return
			}
			for level, n := range s.counts.Logged() {
				s.tell(float64(n), level)
			}
		}},
	}
}
