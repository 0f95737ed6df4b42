package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// step is the scan of one collection of a repair.
type step struct {
	source Source
	form   mapper.Form
	// history is that of a collection of current documents; nil if there is none.
	history *Source
}

// steps are what is left to scan: first all current documents, each with its
// history, then the history of those that are no longer there.
func (a *repairing) steps() []step {
	var all []step
	for _, s := range a.Current {
		st := step{source: s, form: mapper.Current}
		i := slices.IndexFunc(a.History, func(h Source) bool { return h.Namespace == s.Namespace })
		if i >= 0 {
			st.history = &a.History[i]
		}
		all = append(all, st)
	}
	for _, s := range a.History {
		all = append(all, step{source: s, form: mapper.History})
	}
	i := slices.IndexFunc(all, func(s step) bool { return s.source.Name() == a.state.Step })
	if i < 0 {
		// None has begun, or it is none of this stream's any more.
		a.state.Step, a.state.After = "", bson.RawValue{}
		return all
	}
	return all[i:]
}

// step scans a collection and publishes what is missing of it.
func (a *repairing) step(ctx context.Context, s step) error {
	if name := s.source.Name(); a.state.Step != name {
		a.state.Step, a.state.After = name, bson.RawValue{}
	}
	total, err := a.Scanner.Estimate(ctx, s.source)
	if err != nil {
		return err
	}
	a.meter = newMeter(total)
	span := Span{Since: a.since.Add(-a.Tolerance)}
	return a.Scanner.Scan(ctx, s.source, span, Cursor{a.state.After}, func(ctx context.Context, b Batch) error {
		events, failures, err := a.make(ctx, s, span, b)
		if err != nil {
			return err
		}
		a.state.After = b.After.RawValue
		a.meter.add(b.Scanned)
		if len(events) > 0 || len(failures) > 0 || time.Since(a.saved) > a.SaveInterval {
			if err := a.commit(ctx, events, failures); err != nil {
				return err
			}
		}
		a.tell()
		return nil
	})
}

// make makes the events that a batch's changes should have had and have not.
func (a *repairing) make(ctx context.Context, s step, span Span, b Batch) ([]mapper.Event, []mapper.Failure, error) {
	changes := b.Changes
	var err error
	if s.history != nil && len(changes) > 0 {
		if changes, err = a.Scanner.Versions(ctx, *s.history, span, changes); err != nil {
			return nil, nil, err
		}
		if a.Slice.Of > 1 {
			if changes, err = a.thisLife(ctx, *s.history, b.Changes, changes); err != nil {
				return nil, nil, err
			}
		}
	}
	changes = a.known.missing(a.Mapper, changes)
	if s.form == mapper.History && a.Slice.Of > 1 && len(changes) > 0 {
		if changes, err = a.historyOnly(ctx, s.source, changes); err != nil {
			return nil, nil, err
		}
		if len(changes) > 0 {
			if err := a.takeTurn(ctx); err != nil {
				return nil, nil, err
			}
		}
	}
	if len(changes) == 0 {
		return nil, nil, nil
	}
	// Only now: what is read of the change stream has to include all that was seen
	// of the collections.
	if err := a.catchUp(ctx, b.Seen); err != nil {
		return nil, nil, err
	}
	changes = a.known.missing(a.Mapper, changes)
	var out mapper.Output
	if err := a.translation.AppendChanges(ctx, changes, &out); err != nil {
		return nil, nil, err
	}
	for _, f := range out.Failures {
		if a.Stop[f.Kind] {
			return nil, nil, &daemon.PolicyError{Failure: f}
		}
	}
	if s.form == mapper.History {
		// A version that the collection of current documents has told of too.
		a.unproducible += int64(len(out.Failures))
		out.Failures = nil
	}
	return a.known.drop(out.Events), out.Failures, nil
}

// catchUp reads the change stream up to a time that lies behind what was seen of the
// collections: the events of those changes are the live stream's.
//
// It reads up to the newest entry and not to a fresh token: a token's time is the one
// after it, which a quiet oplog reaches only with the server's next no-op, every 10 s.
func (a *repairing) catchUp(ctx context.Context, seen bson.Timestamp) error {
	source := a.live()
	now, err := retry(ctx, func() (bson.Timestamp, error) {
		now, err := source.Now(ctx)
		if err == nil && now.Before(seen) {
			// The stream may be read from another member than the collections.
			err = fmt.Errorf("the server is at %d,%d, behind %d,%d", now.T, now.I, seen.T, seen.I)
		}
		return now, err
	})
	if err != nil {
		return fmt.Errorf("find the end of the oplog: %w", err)
	}
	if now.Before(a.readTo) {
		return nil // nothing has been written since
	}
	err = source.ReadSpan(ctx, watcher.Span{From: a.readTo, UntilTime: now}, func(_ context.Context, c watcher.Chunk) error {
		for _, raw := range c.Changes {
			if daemon.Published(a.position.Published, raw) {
				continue // The live stream leaves it out.
			}
			a.learn(raw)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what has changed since the repair began: %w", err)
	}
	a.readTo = now
	return nil
}

// learn adds the events of a change that comes live.
func (a *repairing) learn(raw bson.Raw) {
	var change mapper.Change
	a.Mapper.Read(raw, &change)
	var out mapper.Output
	a.Mapper.Append(&change, mapper.Facts{}, &out)
	for _, e := range out.Events {
		a.known.add(e.ID)
	}
}

// tell reports how far the repair has come, and logs it now and then.
func (a *repairing) tell() {
	rate, left := a.meter.rate()
	a.report(daemon.RepairProgress{
		Since: a.since, Began: a.state.Began, Collection: a.state.Step, Scanned: a.meter.scanned, Total: a.meter.total,
		Events: a.state.Events, DeadLetters: a.state.DeadLetters, Rate: rate, Left: left, WaitsFor: a.waitsFor,
	})
	if a.meter.due(a.ReportInterval) {
		a.log.Info("repairing lost history", zap.String("collection", a.state.Step), zap.Int64("scanned", a.meter.scanned),
			zap.Int64("of", a.meter.total), zap.Float64("perSecond", rate), zap.Duration("left", left.Round(time.Second)), zap.Int64("events", a.state.Events))
	}
}
