// Package meter shows how far the commands are that read the oplog.
package meter

import (
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// spans measures the reading of spans of the oplog, in seconds of the oplog's time: the
// number of changes is not known beforehand.
type spans struct {
	mu     sync.Mutex
	all    map[string]watcher.Span
	done   map[string]int64
	events int64
}

func newSpans() *spans {
	return &spans{all: map[string]watcher.Span{}, done: map[string]int64{}}
}

// begin notes the span that is read of a stream, and returns the seconds of all spans.
func (m *spans) begin(stream string, span watcher.Span) (total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[stream] = span
	for _, s := range m.all {
		total += seconds(s.From, s.UntilTime)
	}
	return total
}

// advanced notes that a stream has been read up to a time, which may lie after its span, and
// the number of its events. It returns the sums over all streams.
func (m *spans) advanced(stream string, at bson.Timestamp, events int) (done, made int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	span := m.all[stream]
	m.done[stream] = max(m.done[stream], min(seconds(span.From, at), seconds(span.From, span.UntilTime)))
	m.events += int64(events)
	for _, s := range m.done {
		done += s
	}
	return done, m.events
}

func seconds(from, to bson.Timestamp) int64 { return max(int64(to.T)-int64(from.T), 0) }

// Jobs shows the progress of a replay; ended removes the last line, or leaves it
// complete.
func Jobs(screen *terminal.Screen, label string, jobs []replay.Job) (advanced func(stream string, at bson.Timestamp, events int), ended func(error)) {
	meter := newSpans()
	var total int64
	for _, j := range jobs {
		total = meter.begin(j.Stream.Name, j.Span)
	}
	progress := terminal.NewProgress(screen, label, terminal.OplogSeconds, total)
	progress.Made(0, "event")
	advanced = func(stream string, at bson.Timestamp, events int) {
		done, made := meter.advanced(stream, at, events)
		progress.Set(done)
		progress.Made(made, "event")
	}
	return advanced, func(err error) {
		if err == nil { // there were no more changes up to the spans' ends
			progress.Set(total)
		}
		progress.Close()
	}
}
