package repair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/wait"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// step is the scan of one collection of a repair.
type step struct {
	collection replay.Collection
	form       mapper.Form
	// history is the history of a collection of current documents; nil if it has none.
	history *replay.Collection
}

// steps are the scans still to do: first all current documents, each with its history, then
// the histories, for documents that no longer exist.
func (a *attempt) steps() []step {
	var all []step
	for _, c := range a.Current {
		s := step{collection: c, form: mapper.Current}
		i := slices.IndexFunc(a.History, func(h replay.Collection) bool { return h.Namespace == c.Namespace })
		if i >= 0 {
			s.history = &a.History[i]
		}
		all = append(all, s)
	}
	for _, c := range a.History {
		all = append(all, step{collection: c, form: mapper.History})
	}
	i := slices.IndexFunc(all, func(s step) bool { return s.collection.Name() == a.state.Step })
	if i < 0 {
		// None has begun, or the stream no longer watches the stored one.
		a.state.Step, a.state.After = "", bson.RawValue{}
		return all
	}
	return all[i:]
}

// awaitHistory waits until all versions from before the token have their history. The scan of
// the history begins with it, because only the history has a version that was overwritten or
// deleted before the token. In a long repair the time has passed already.
func (a *attempt) awaitHistory(ctx context.Context) (waited bool, err error) {
	left := min(time.Until(a.state.Began.Add(a.Patience)), a.Patience)
	if left <= 0 {
		return false, nil
	}
	a.waitsFor = "the history of the last changes before the repair, which may come late"
	defer func() { a.waitsFor = "" }()
	a.tell()
	return true, wait.Sleep(ctx, left)
}

// maxCursorBytes is the largest _id that is stored with the position, which has to stay
// small enough for its topic.
const maxCursorBytes = 4 << 10

// step scans a collection and publishes its missing events.
func (a *attempt) step(ctx context.Context, s step) error {
	if name := s.collection.Name(); a.state.Step != name {
		a.state.Step, a.state.After = name, bson.RawValue{}
	}
	total, err := a.scanner.Estimate(ctx, s.collection)
	if err != nil {
		return err
	}
	a.meter = newMeter(total)
	period := replay.Period{Since: a.since.Add(-a.Tolerance)}
	if s.form == mapper.Current {
		// The live stream delivers the changes from the token's time on. The scan has to see
		// all earlier ones: an older snapshot would miss some for good.
		s.collection.After = replay.Before(a.state.ClusterTime)
	}
	err = a.scanner.Scan(ctx, s.collection, period, replay.Cursor{RawValue: a.state.After}, func(ctx context.Context, b replay.Page) error {
		events, failures, err := a.make(ctx, s, period, b)
		if err != nil {
			return err
		}
		if len(b.After.Value) <= maxCursorBytes {
			// After a larger _id an interrupted repair goes on a little earlier: the events
			// that it makes again are in the topics, and known.
			a.state.After = b.After.RawValue
		}
		a.meter.add(b.Scanned)
		if len(events) > 0 || len(failures) > 0 || time.Since(a.saved) > a.SaveInterval {
			if err := a.commit(ctx, events, failures); err != nil {
				return err
			}
		}
		a.tell()
		return nil
	})
	if none := new(replay.UnwatchedError); errors.As(err, &none) {
		a.log.Warn("the repair leaves a collection out: none of its changes is ever published", zap.String("collection", none.Collection), zap.String("because", "it is "+none.Why))
		return nil
	}
	return err
}

// make makes the missing events of a page's changes.
func (a *attempt) make(ctx context.Context, s step, period replay.Period, b replay.Page) ([]mapper.Event, []mapper.Failure, error) {
	changes := b.Changes
	var err error
	if a.Mapper.Windowed() {
		return a.touched(ctx, s, changes)
	}
	if s.history != nil && len(changes) > 0 {
		if changes, err = a.scanner.Versions(ctx, *s.history, period, changes); err != nil {
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
		if changes, err = a.historyOnly(ctx, s.collection, changes); err != nil {
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
	// Only now: the reading of the change stream has to include every change that the scan
	// has seen.
	if err := a.catchUp(ctx, b.Seen); err != nil {
		return nil, nil, err
	}
	changes = a.known.missing(a.Mapper, changes)
	var out mapper.Output
	if err := a.translation.AppendChanges(ctx, changes, &out); err != nil {
		return nil, nil, err
	}
	if lacksHistory(out.Failures) {
		// With the history come versions that were overwritten meanwhile, which belong before
		// others of the page.
		if waited, err := a.awaitHistory(ctx); err != nil {
			return nil, nil, err
		} else if waited {
			return a.make(ctx, s, period, b)
		}
	}
	events, failures, err := a.produced(s, &out)
	return a.known.drop(events), failures, err
}

// produced gives the events and failures to commit, or the error of the policy on_failure: stop.
func (a *attempt) produced(s step, out *mapper.Output) ([]mapper.Event, []mapper.Failure, error) {
	for _, f := range out.Failures {
		if a.Stop[f.Kind] {
			return nil, nil, &daemon.PolicyError{Failure: f}
		}
	}
	if s.form == mapper.History {
		// The scan of current documents has met the same version.
		a.unproducible += int64(len(out.Failures))
		out.Failures = nil
	}
	return out.Events, out.Failures, nil
}

// lacksHistory tells whether changes may have failed because their history has not come yet, on
// which some kinds depend: a change from right before the repair began.
func lacksHistory(failures []mapper.Failure) bool {
	byHistory := map[mapper.Kind]bool{}
	for _, kind := range mapper.Kinds() {
		byHistory[kind.Name] = kind.ByHistory
	}
	return slices.ContainsFunc(failures, func(f mapper.Failure) bool { return byHistory[f.Kind] })
}

// touched makes one event for each patient and person of a page's changes. A touch too many does no
// harm, so nothing is known: what the page has from before the gap, or from after its end, is
// published too. The time that names the events grows with each that the repair has published, and
// goes with them in one transaction.
func (a *attempt) touched(ctx context.Context, s step, changes []mapper.Change) ([]mapper.Event, []mapper.Failure, error) {
	const millis = 1000
	var out mapper.Output
	if err := a.windows.Touched(ctx, changes, int64(a.state.ClusterTime.T)*millis+a.state.Events, a.state.ClusterTime, &out); err != nil {
		return nil, nil, err
	}
	return a.produced(s, &out)
}

// catchUp reads the change stream up to a time after all changes that the scan has seen: the
// live stream publishes the events of the changes since the token.
//
// It reads up to the newest entry and not to a fresh token: a token's time lies after the
// newest entry, and a quiet oplog reaches it only with the server's next no-op, every 10 s.
func (a *attempt) catchUp(ctx context.Context, seen bson.Timestamp) error {
	live := a.live()
	now, err := replay.Retry(ctx, func() (bson.Timestamp, error) {
		now, err := live.Now(ctx)
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
	still := replay.Standstill{Lags: a.waits}
	defer still.End()
	err = live.ReadSpan(ctx, watcher.Span{From: a.readTo, UntilTime: now, History: a.state.History}, func(_ context.Context, c watcher.Chunk) error {
		still.Look(c, "the oplog")
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

// waits reports what cannot be read yet because no majority has the primary's writes; "" when
// the wait is over.
func (a *attempt) waits(what string) {
	a.waitsFor = ""
	if what == "" {
		return
	}
	a.waitsFor = fmt.Sprintf("a majority of MongoDB's members to have what the primary has, to read %s: see that the secondaries run and keep up", what)
	a.tell()
	if time.Since(a.warned) > a.ReportInterval {
		a.warned = time.Now()
		a.log.Warn("the repair waits for a majority of the replica set's members: what only the primary has may be rolled back", zap.String("waitsFor", what))
	}
}

// learn adds the event ids of a change that a stream publishes live.
func (a *attempt) learn(raw bson.Raw) {
	var change mapper.Change
	a.Mapper.Read(raw, &change)
	for _, e := range replay.Bare(a.Mapper, &change).Events {
		a.known.add(e.ID)
	}
}

// tell reports the progress of the repair, and logs it every ReportInterval.
func (a *attempt) tell() {
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

// meter measures the scan of one collection.
type meter struct {
	began, told time.Time
	// scanned is the number of documents looked at, total the estimate of all.
	scanned, total int64
}

func newMeter(total int64) meter {
	now := time.Now()
	return meter{began: now, told: now, total: total}
}

func (m *meter) add(n int64) {
	m.scanned += n
	m.total = max(m.total, m.scanned) // the total is an estimate
}

// rate is the number of documents a second, and the time for the rest at that rate.
func (m *meter) rate() (perSecond float64, left time.Duration) {
	took := time.Since(m.began).Seconds()
	if took <= 0 || m.scanned == 0 {
		return 0, 0
	}
	perSecond = float64(m.scanned) / took
	return perSecond, time.Duration(float64(m.total-m.scanned) / perSecond * float64(time.Second))
}

// due is true once an interval: the scan is to be logged.
func (m *meter) due(interval time.Duration) bool {
	if time.Since(m.told) < interval {
		return false
	}
	m.told = time.Now()
	return true
}
