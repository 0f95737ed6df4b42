package main

import (
	"fmt"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// spanMeter shows how much of spans of the oplog has been read, in seconds of the
// oplog's time: how many changes there are nobody knows beforehand.
type spanMeter struct {
	progress *terminal.Progress

	mu     sync.Mutex
	from   map[string]bson.Timestamp
	done   map[string]int64
	events int64
}

func newSpanMeter(screen *terminal.Screen, label string, jobs []replay.Job) *spanMeter {
	m := &spanMeter{from: map[string]bson.Timestamp{}, done: map[string]int64{}}
	var total int64
	for _, j := range jobs {
		m.from[j.Stream.Name] = j.Span.From
		total += seconds(j.Span.From, j.Span.UntilTime)
	}
	m.progress = terminal.NewProgress(screen, label, "s of the oplog", total)
	return m
}

// advanced notes that a stream has been read up to a time, and the events that came
// of it.
func (m *spanMeter) advanced(stream string, at bson.Timestamp, events int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[stream] = max(m.done[stream], seconds(m.from[stream], at))
	m.events += int64(events)
	var done int64
	for _, s := range m.done {
		done += s
	}
	m.progress.Set(done)
	m.progress.Detail(terminal.Count(m.events) + " events")
}

func (m *spanMeter) close() { m.progress.Close() }

func seconds(from, to bson.Timestamp) int64 { return max(int64(to.T)-int64(from.T), 0) }

// oplogNote adds to progress that counts something else how far streams have been read.
type oplogNote struct {
	progress *terminal.Progress

	mu     sync.Mutex
	events int64
}

func (n *oplogNote) changed(stream string, at bson.Timestamp, events int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events += int64(events)
	n.progress.Detail(fmt.Sprintf("%s events of the oplog, stream %s at %s", terminal.Count(n.events), stream, replay.Clock(at)))
}
