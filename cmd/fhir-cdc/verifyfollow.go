package main

import (
	"context"
	"fmt"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// verifyProgress shows the records that have been read and, from when all are, how much of
// the oplog has been.
type verifyProgress struct {
	progress *terminal.Progress
	meter    *spanMeter

	mu      sync.Mutex
	seconds int64
	oplog   bool // the records are read
}

func (f *verifyProgress) begins(stream string, span watcher.Span) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seconds = f.meter.begin(stream, span)
}

func (f *verifyProgress) read(records, of int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress.Set(records)
	f.progress.Total(of)
	if records == of {
		f.oplog = true
		f.progress.Phase(spanUnit, f.seconds)
	}
}

func (f *verifyProgress) changed(stream string, at bson.Timestamp, events int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	done, made := f.meter.advanced(stream, at, events)
	if !f.oplog {
		f.progress.Detail(fmt.Sprintf("%s events of the oplog, stream %s at %s", terminal.Count(made), stream, replay.Clock(at)))
		return
	}
	f.progress.Set(done)
	f.progress.Made(made, "events")
	f.progress.Detail("")
}

// followVerify runs a verification and shows how far it has come.
func followVerify(ctx context.Context, v *replay.Verification, repair *replay.Repair, screen *terminal.Screen) (*replay.VerifyResult, error) {
	progress := terminal.NewProgress(screen, "verify", "records", 0)
	defer progress.Close()
	f := &verifyProgress{progress: progress, meter: newSpanMeter()}
	v.Begins = f.begins
	v.Read, v.Changed = f.read, f.changed
	v.Looked = func(collection string, documents, of int64) {
		progress.Detail(fmt.Sprintf("before the oplog: %s of about %s documents of %s", terminal.Count(documents), terminal.Count(max(documents, of)), collection))
	}
	v.Waits = func(topic string, partition int32) {
		_ = screen.Printf("verify: a transaction is open in topic %s, partition %d; waiting for its end, for %s at most", topic, partition, v.Patience) // Progress, no result.
	}
	if repair != nil {
		repair.Published = func(events, of int64) {
			progress.Detail(fmt.Sprintf("repair: %s of %s events", terminal.Count(events), terminal.Count(of)))
		}
	}
	return v.Run(ctx, repair)
}
