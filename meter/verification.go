package meter

import (
	"fmt"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Verification shows the progress of a verification: first of reading the records, then of
// reading the oplog.
type Verification struct {
	*terminal.Progress
	meter *spans

	mu    sync.Mutex
	oplog bool // all records are read
	// seconds is the length of the oplog's spans, done the part read, made the number of events.
	seconds, done, made int64
}

// NewVerification begins to show it. Close ends that.
func NewVerification(screen *terminal.Screen) *Verification {
	return &Verification{Progress: terminal.NewProgress(screen, "verify", "record", 0), meter: newSpans()}
}

// Begins notes a span of the oplog that will be read.
func (f *Verification) Begins(stream string, span watcher.Span) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seconds = f.meter.begin(stream, span)
}

// Read notes how many records have been read, of how many.
func (f *Verification) Read(records, of int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.oplog {
		return
	}
	f.Set(records)
	f.Total(of)
	if f.oplog = records == of; f.oplog {
		f.Phase(terminal.OplogSeconds, f.seconds)
		f.show()
	}
}

// Changed notes up to where a stream's span has been read, and its number of events.
func (f *Verification) Changed(stream string, at bson.Timestamp, events int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.made = f.meter.advanced(stream, at, events)
	if !f.oplog {
		f.Detail(fmt.Sprintf("%s of the oplog, stream %s at %s", terminal.Counted(f.made, "event"), stream, replay.Clock(at)))
		return
	}
	f.show()
}

func (f *Verification) show() {
	f.Set(f.done)
	f.Made(f.made, "event")
	f.Detail("")
}

// Ended completes the progress: there may be no more changes up to the spans' ends.
func (f *Verification) Ended(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.oplog {
		f.Set(f.seconds)
	}
}
