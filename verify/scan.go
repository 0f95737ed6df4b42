package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// begin is where the reading of a stream's oplog begins. scanned says that the oplog
// does not reach back far enough: the time before it is read from collections.
type begin struct {
	from    bson.Timestamp
	scanned bool
}

const (
	// rollAttempts is how often the oplog's beginning is looked for again when it has
	// moved on meanwhile, each time rollMargin later than it is.
	rollAttempts = 5
	rollMargin   = 2
	// searchPrecision is how exactly, in seconds, the beginning is found where the
	// server does not tell it.
	searchPrecision = 10
)

// begin finds out how far back a stream's oplog can be read.
func (v *verification) begin(ctx context.Context, s VerifiedStream) (begin, error) {
	now, err := s.Oplog.Now(ctx)
	if err != nil {
		return begin{}, fmt.Errorf("stream %s: %w", s.Name, err)
	}
	reach := func(from bson.Timestamp) (*replay.BeyondOplogError, error) {
		err := replay.Reach(ctx, s.StreamOplog, watcher.Span{From: from, UntilTime: now})
		var beyond *replay.BeyondOplogError
		if errors.As(err, &beyond) {
			return beyond, nil
		}
		return nil, err
	}
	since := clusterTime(v.Since)
	var beyond *replay.BeyondOplogError
	for _, from := range []bson.Timestamp{clusterTime(v.Since.Add(-nearMargin)), since} {
		if beyond, err = reach(from); err != nil || beyond == nil {
			return begin{from: from}, err
		}
	}
	for n := uint32(0); n < rollAttempts && err == nil && beyond != nil && !beyond.Oldest.IsZero(); n++ {
		from := beyond.Oldest
		if n > 0 { // it has been forgotten since it was asked for
			from.T += rollMargin
		}
		if beyond, err = reach(from); err == nil && beyond == nil {
			return begin{from, true}, nil
		}
	}
	switch {
	case err != nil:
		return begin{}, err
	case !beyond.Oldest.IsZero():
		return begin{}, beyond // the oplog forgets faster than it can be found
	}
	// A sharded cluster does not tell, nor does a server that the user may not ask.
	lost, held := since.T, now.T
	for held-lost > searchPrecision {
		middle := lost + (held-lost)/2
		if beyond, err = reach(bson.Timestamp{T: middle}); err != nil {
			return begin{}, err
		}
		if beyond != nil {
			lost = middle
		} else {
			held = middle
		}
	}
	return begin{bson.Timestamp{T: held}, true}, nil
}

// Behind tells whether the stream has published none of the changes since a time,
// so that nothing of it can be asked for.
func (s VerifiedStream) Behind(since time.Time) bool {
	return !s.Position.IsZero() && packTime(s.Position.ClusterTime) < packTime(clusterTime(since))
}

// tellPosition notes the span that is left out because a stream has not come to it.
func (v *verification) tellPosition(stream int) {
	s := v.Streams[stream]
	at := replay.Clock(s.Position.ClusterTime)
	switch {
	case !s.Asked || s.Position.IsZero():
	case s.Behind(v.Since):
		v.report.note(fmt.Sprintf("stream %s has published up to %s only, which is before what is asked for: nothing of it was compared", s.Name, at))
	case v.begins[stream].scanned && packTime(s.Position.ClusterTime) < packTime(v.spans[stream].From):
		v.report.note(fmt.Sprintf("stream %s: its position, of %s, lies before the oplog's beginning, so it has a repair of lost history before it. "+
			"What was written from %s before the position on is not asked for and nothing to --repair here: the stream publishes it by itself when it runs (repair.on_history_lost)", s.Name, at, terminal.Duration(v.Tolerance)))
	}
}

// scanEnd is the time, by the FHIR server's clock, up to which all versions before the
// oplog must have their events.
func (v *verification) scanEnd(s VerifiedStream, span watcher.Span) time.Time {
	end := replay.Time(span.From)
	// What is written while the oplog is read must not be asked for.
	if now := replay.Time(span.UntilTime).Add(-v.Tolerance); now.Before(end) {
		end = now
	}
	if !v.Until.IsZero() && v.Until.Before(end) {
		end = v.Until
	}
	// A version that is older than the position may have been committed after it.
	if at := replay.Time(s.Position.ClusterTime).Add(-v.Tolerance); !s.Position.IsZero() && at.Before(end) {
		end = at
	}
	return end
}

// scan notes the versions of the collections and their history from the time before the
// oplog.
func (v *verification) scan(ctx context.Context, s VerifiedStream, span watcher.Span, done *StreamResult) error {
	end := v.scanEnd(s, span)
	return v.scanCollections(ctx, s, v.around(span), func(ctx context.Context, form mapper.Form, changes []mapper.Change) error {
		done.Scanned += int64(len(changes))
		facts, err := v.Reader.Facts.Deciding(ctx, changes)
		if err != nil {
			return err
		}
		for i := range changes {
			c := &changes[i]
			at, known := c.Written()
			must := s.Asked && known && !at.Before(v.Since) && at.Before(end)
			var out mapper.Output
			s.Mapper.Append(c, facts[i], &out)
			if must && form == mapper.Current { // what only history tells of may be no event
				done.DeadLetters += int64(len(out.Failures))
			}
			for j := range out.Events {
				e := &out.Events[j]
				if err := v.expectScanned(e, s.Name, must && !v.tooLargeNow(e), at); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// tellScanned notes the limits of scanning for the time before a stream's oplog.
func (v *verification) tellScanned(stream int, versions int64) {
	s, from := v.Streams[stream], v.spans[stream].From
	v.compare.unseenBefore = max(v.compare.unseenBefore, replay.Time(from).Add(max(v.MaxLag, clockMargin)).UnixMilli())
	if !s.Asked {
		return
	}
	if s.Mapper.Windowed() {
		v.report.note(fmt.Sprintf("stream %s: the oplog begins at %s, and nothing else tells of windows: no events of earlier ones were looked for, and their records count as unseen", s.Name, replay.Clock(from)))
		return
	}
	v.report.note(fmt.Sprintf("stream %s: the oplog begins at %s. Before that, since %s, events were looked for by what the collections and their history hold (%s), and their order was not checked. "+
		"What cannot be seen: versions that were overwritten or deleted without history, earlier statuses of an ExportStatus, deletes, requests whose access logs and AuditEvents are gone. "+
		"Records that may be of those count as unseen", s.Name, replay.Clock(from), v.Since.UTC().Format(time.RFC3339), terminal.Counted(versions, "version")))
}

// around is the time from Since to the oplog's beginning, with all that lies so near
// that clocks may be wrong about it.
func (v *verification) around(span watcher.Span) replay.Period {
	return replay.Period{Since: v.Since.Add(-v.Tolerance), Until: replay.Time(span.From).Add(v.Tolerance)}
}

// scanCollections hands over the changes of a time that a stream's collections, and then their
// histories, tell of.
func (v *verification) scanCollections(ctx context.Context, s VerifiedStream, around replay.Period, each func(context.Context, mapper.Form, []mapper.Change) error) error {
	for n, c := range slices.Concat(s.Current, s.History) {
		form := mapper.Current
		if n >= len(s.Current) {
			form = mapper.History
		}
		scanner := replay.NewScanner(s.Mapper, replay.Options{Waits: v.Reader.Lags})
		total, err := scanner.Estimate(ctx, c)
		if err != nil {
			return err
		}
		looked := int64(0)
		err = scanner.Scan(ctx, c, around, replay.Cursor{}, func(ctx context.Context, b replay.Page) error {
			looked += b.Scanned
			if v.Looked != nil {
				v.Looked(c.Name(), looked, total)
			}
			return each(ctx, form, b.Changes)
		})
		if none := new(replay.UnwatchedError); errors.As(err, &none) {
			v.report.note(none.Error() + ": nothing of it was looked for")
		} else if err != nil {
			return err
		}
	}
	return nil
}

// expectScanned notes the event of a scanned version.
func (v *verification) expectScanned(e *mapper.Event, stream string, must bool, at time.Time) error {
	class := possible
	if must {
		class = scanned
	}
	milli := at.UnixMilli()
	return v.add(e, stream, class, 0, uint64(milli/1000)<<32|uint64(milli%1000))
}

// completeScanned publishes the missing events of the time before the oplog.
func (v *verification) completeScanned(ctx context.Context, stream int, missing missingEvents, publish func(context.Context, []mapper.Event) error) error {
	s := v.Streams[stream]
	translation := v.Reader.Translation(s.Mapper)
	return v.scanCollections(ctx, s, v.around(v.spans[stream]), func(ctx context.Context, _ mapper.Form, changes []mapper.Change) error {
		wanted := slices.DeleteFunc(changes, func(c mapper.Change) bool {
			return !slices.ContainsFunc(replay.Bare(s.Mapper, &c).Events, func(e mapper.Event) bool { return v.find(&e, missing) >= 0 })
		})
		var out mapper.Output
		if err := translation.AppendChanges(ctx, wanted, &out); err != nil {
			return err
		}
		return publish(ctx, out.Events)
	})
}
