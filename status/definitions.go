package status

import (
	"github.com/prometheus/client_golang/prometheus"
)

// namespace begins the name of every metric of the daemon's own.
const namespace = "fhir_cdc_"

// metricType is a metric's type as Prometheus names it.
type metricType string

const (
	counter   metricType = "counter"
	gauge     metricType = "gauge"
	histogram metricType = "histogram"
)

// definition describes one metric: what /metrics says of it, and what docs/metrics.md
// says.
type definition struct {
	name   string
	kind   metricType
	labels []string
	help   string
}

func (d definition) desc() *prometheus.Desc {
	return prometheus.NewDesc(namespace+d.name, d.help, d.labels, nil)
}

// definitions is the table of all metrics of the daemon's own, in the order of the
// documentation.
func definitions() []definition {
	stream := func(name string, kind metricType, help string, labels ...string) definition {
		return definition{name, kind, append([]string{"stream"}, labels...), help}
	}
	return []definition{
		{"build_info", gauge, []string{"name", "version", "goversion"}, "1, with the installation's name (the key name), the program's version and Go's."},
		{"replica_refused", gauge, nil, "1 while replicas with another configuration share the streams, so that this process cannot take over; else 0. It is 1 for a while in each rolling update that changes the streams or the events."},
		{"group_away_seconds", gauge, nil, "Time since the coordinator of the group of replicas last answered, while an answer is overdue or the group cannot be joined for want of one: Kafka is away, or out of reach from here. 0 while this process is in the group, and with replicas: none."},
		{"group_out_seconds", gauge, nil, "Time since this process was last in the group of replicas, while the coordinator answers and keeps it out: another process has its instance (FENCED_INSTANCE_ID), or the user lacks Read on the group (GROUP_AUTHORIZATION_FAILED). Else 0."},
		stream("stream_state", gauge, "1 for the state that the stream is in at this process, 0 for the others.", "state"),
		stream("events_total", counter, "Events committed by this process. The action is what happened to the document: create, update or delete.", "kind", "action"),
		stream("dead_letters_total", counter, "Events that could not be produced and were recorded in the dead-letter topic.", "kind"),
		stream("commits_total", counter, "Batches and positions committed by this process."),
		stream("interruptions_total", counter, "Times that the stream went back to its stored position after an error."),
		stream("fenced_total", counter, "Times that another process took the stream over while this one carried it."),
		stream("reopenings_total", counter, "Times that the change stream broke and was opened again in place, by cause.", "cause"),
		stream("open_cursors", gauge, "Cursors that this process holds open on MongoDB for the stream; 1 while it runs."),
		stream("lag_seconds", gauge, "Time from the position up to which all is published to the newest operation of the cluster, both by MongoDB's clock. Asked every 10 s; not there on a stand-by, and while MongoDB does not answer."),
		stream("position_age_seconds", gauge, "Age of the oplog time of the stored position, by this process's clock. An idle stream's grows to checkpoint.idle_interval and falls back; not there on a stand-by."),
		stream("oplog_left_seconds", gauge, "Time from the oldest entry of the oplog to the stored position: when it reaches 0, changes are lost. Not there on a stand-by, while the oplog is not full yet, without find on local.oplog.rs, and on a sharded cluster."),
		stream("read_age_seconds", gauge, "Time since MongoDB last answered the stream, with changes or without; an error is no answer. It grows while the stream is paused or waits for Kafka, since MongoDB is not asked then; not there on a stand-by."),
		stream("read_pending_seconds", gauge, "Time that an answer of MongoDB has been due; 0 while it answers, and while it is asked for nothing. The stream tries again until it answers: nothing is lost while the oplog holds the position."),
		stream("commit_pending_seconds", gauge, "Time that the commit under way has been waiting for Kafka; 0 between commits. It does not give up: nothing is lost, and nothing goes on."),
		stream("commit_seconds", histogram, "Time that a commit of a batch with events took."),
		stream("end_to_end_seconds", histogram, "Time from a change in MongoDB, by its clock, until its event was committed, by this process's clock."),
		stream("batch_events", histogram, "Events of a batch that had any."),
		stream("batch_bytes", histogram, "Bytes (keys, values and headers) of a batch that had events."),
		{"lookups_total", counter, []string{"fact"}, "Facts looked up in MongoDB for events: request_id, bwell_person, managing_organization."},
		{"lookups_missed_total", counter, []string{"fact"}, "Facts of lookups_total that were not found; the event goes out without them."},
		{"log_messages_total", counter, []string{"level"}, "Lines logged, by level."},
	}
}
