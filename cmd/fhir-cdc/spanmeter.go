package main

import (
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// spanMeter measures the reading of spans of the oplog, in seconds of the oplog's time: the
// number of changes is not known beforehand.
type spanMeter struct {
	mu     sync.Mutex
	spans  map[string]watcher.Span
	done   map[string]int64
	events int64
}

// spanUnit is what a spanMeter counts.
const spanUnit = "s of the oplog"

func newSpanMeter() *spanMeter {
	return &spanMeter{spans: map[string]watcher.Span{}, done: map[string]int64{}}
}

// begin notes the span that is read of a stream, and returns the seconds of all spans.
func (m *spanMeter) begin(stream string, span watcher.Span) (total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spans[stream] = span
	for _, s := range m.spans {
		total += seconds(s.From, s.UntilTime)
	}
	return total
}

// advanced notes that a stream has been read up to a time, which may lie after its span, and
// the number of its events. It returns the sums over all streams.
func (m *spanMeter) advanced(stream string, at bson.Timestamp, events int) (done, made int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	span := m.spans[stream]
	m.done[stream] = max(m.done[stream], min(seconds(span.From, at), seconds(span.From, span.UntilTime)))
	m.events += int64(events)
	for _, s := range m.done {
		done += s
	}
	return done, m.events
}

func seconds(from, to bson.Timestamp) int64 { return max(int64(to.T)-int64(from.T), 0) }

// followJobs shows the progress of a replay; ended removes the last line, or leaves it
// complete.
func followJobs(screen *terminal.Screen, label string, jobs []replay.Job) (advanced func(stream string, at bson.Timestamp, events int), ended func(error)) {
	meter := newSpanMeter()
	var total int64
	for _, j := range jobs {
		total = meter.begin(j.Stream.Name, j.Span)
	}
	progress := terminal.NewProgress(screen, label, spanUnit, total)
	progress.Made(0, "events")
	advanced = func(stream string, at bson.Timestamp, events int) {
		done, made := meter.advanced(stream, at, events)
		progress.Set(done)
		progress.Made(made, "events")
	}
	return advanced, func(err error) {
		if err == nil { // there were no more changes up to the spans' ends
			progress.Set(total)
		}
		progress.Close()
	}
}
