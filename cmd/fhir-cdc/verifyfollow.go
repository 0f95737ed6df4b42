package main

import (
	"context"
	"errors"
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

	mu    sync.Mutex
	oplog bool // the records are read
	// seconds are all of the oplog, done those that are read, made the events of them.
	seconds, done, made int64
}

func (f *verifyProgress) begins(stream string, span watcher.Span) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seconds = f.meter.begin(stream, span)
}

func (f *verifyProgress) read(records, of int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.oplog {
		return
	}
	f.progress.Set(records)
	f.progress.Total(of)
	if f.oplog = records == of; f.oplog {
		f.progress.Phase(spanUnit, f.seconds)
		f.show()
	}
}

func (f *verifyProgress) changed(stream string, at bson.Timestamp, events int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.made = f.meter.advanced(stream, at, events)
	if !f.oplog {
		f.progress.Detail(fmt.Sprintf("%s events of the oplog, stream %s at %s", terminal.Count(f.made), stream, replay.Clock(at)))
		return
	}
	f.show()
}

func (f *verifyProgress) show() {
	f.progress.Set(f.done)
	f.progress.Made(f.made, "events")
	f.progress.Detail("")
}

// ended shows that the oplog is read: up to its end there may be nothing more.
func (f *verifyProgress) ended(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.oplog {
		f.progress.Set(f.seconds)
	}
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
	repairs := false
	if repair != nil {
		repair.Published = func(events, of int64) {
			repairs = true
			progress.Detail(fmt.Sprintf("repair: %s of %s events", terminal.Count(events), terminal.Count(of)))
		}
	}
	result, err := v.Run(ctx, repair)
	f.ended(err)
	if lost := new(watcher.Error); errors.As(err, &lost) && lost.Class == watcher.HistoryLost {
		err = fmt.Errorf("the oplog has forgotten what was still to be read of it; run verify again: %w", lost.Err)
	}
	if err != nil && repairs {
		err = &midwayError{err}
	}
	return result, err
}
