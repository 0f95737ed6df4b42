// Package repair makes up for lost history: it publishes the events of changes that the
// oplog no longer holds, from the collections.
package repair

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/wait"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// ChangeStream is the change stream that is repaired; *watcher.Watcher is one. It
// should not wait long at its end.
type ChangeStream interface {
	replay.Oplog
	Fingerprint() string
	// History names the history of the oplog, as daemon.Source does.
	History() string
	Begin(ctx context.Context, from watcher.From) (bson.Raw, error)
}

// Repairer publishes the events of changes that the oplog no longer holds, from the
// collections. It is a daemon.Repairer.
//
// The gap reaches from the lost position to a token that is taken before anything is
// scanned, where the live stream goes on. Ids decide which versions lie in it, not
// clocks: everything in the collections that is written about the gap or
// later has its event, except for the ids that the topics hold already (published
// before the position, or by an earlier attempt at the repair) and those that the
// change stream reads after the token. Clocks only bound the documents that are read, with
// a tolerance.
type Repairer struct {
	// Stream is the stream's name.
	Stream  string
	Mapper  *mapper.Mapper
	Scanner *replay.Scanner
	Changes ChangeStream
	// Whole is the change stream of all slices; nil where there is one only.
	Whole ChangeStream
	// Current are the collections of the stream's feeds, History those of the history
	// that there is of them.
	Current, History []replay.Collection
	// Slice is the stream's part of the collections.
	Slice watcher.Slice
	// Siblings looks at the other slices of the stream's group. Without it (nil) they are
	// not waited for, and what several repairs see to at once may be published twice, with
	// the same ids.
	Siblings     func(ctx context.Context) ([]Sibling, error)
	Facts        daemon.Facts
	SeenRequests int
	// IDsSince hands over the ids of the events that the topics hold since a time.
	// Without it (nil), or if it is not allowed, events about the lost position may be
	// published twice, with the same ids.
	IDsSince func(ctx context.Context, since time.Time, each func(id string)) error
	// Audit puts the repair on record.
	Audit func(ctx context.Context, action publisher.AuditAction, details map[string]any) error
	// Tolerance is the longest difference between the clocks of the FHIR server, of
	// MongoDB, of Kafka and of this process.
	Tolerance time.Duration
	// Settle is how long after its change a history document usually comes, Patience how long
	// at most, as after a large $merge.
	Settle, Patience time.Duration
	// Stop holds the kinds for which a failure stops the stream.
	Stop map[mapper.Kind]bool
	// SaveInterval is how often the state is stored while nothing is found.
	SaveInterval time.Duration
	// ReportInterval is how often progress is logged.
	ReportInterval time.Duration
	Log            *zap.Logger
}

// Repair implements daemon.Repairer.
func (r *Repairer) Repair(ctx context.Context, p daemon.Publisher, position resumetoken.Position, report func(daemon.RepairProgress)) (resumetoken.Position, error) {
	a := &attempt{
		Repairer: r, publisher: p, position: position, report: report, known: newKnown(),
		since: time.Unix(int64(position.ClusterTime.T), 0).UTC(),
		log:   r.Log.With(zap.String("stream", r.Stream)),
	}
	a.scanner = r.Scanner.Telling(a.waits)
	a.windows = daemon.NewWindowTranslation(r.Mapper, r.Facts, p.MaxEventBytes)
	a.translation = daemon.NewTranslation(r.Mapper, r.Facts, r.SeenRequests, p.MaxEventBytes)
	next, err := a.repair(ctx)
	var known *watcher.Error
	if errors.As(err, &known) && known.Class == watcher.HistoryLost {
		// The oplog has not lasted for the repair: it no longer holds what has been
		// written since. A further one, up to a later time, makes up for that too.
		a.log.Error("the oplog no longer reaches back to the beginning of the repair, which begins anew", zap.Error(err))
		a.position.Repair = nil
		if e := p.Commit(ctx, &publisher.Batch{Position: a.position}); e != nil {
			return position, errors.Join(err, fmt.Errorf("give the repair up: %w", e))
		}
	}
	if err != nil {
		return position, err
	}
	return next, nil
}

// attempt is one attempt at a repair.
type attempt struct {
	*Repairer
	// scanner is the Repairer's, and tells this attempt of its waiting.
	scanner     *replay.Scanner
	publisher   daemon.Publisher
	translation *daemon.Translation
	windows     *daemon.WindowTranslation // in place of translation, in a stream of windows
	position    resumetoken.Position
	state       resumetoken.Repair
	since       time.Time
	report      func(daemon.RepairProgress)
	log         *zap.Logger

	// known are the ids that must not be published (again), readAt is when the topics
	// were read back for them last.
	known  *known
	readAt time.Time
	// turned says that the other slices need not be waited for any more. waitsFor is what
	// is waited for, and why; warned is when the log said last that it is a majority.
	turned   bool
	waitsFor string
	warned   time.Time
	// readTo is the oplog time up to which the change stream has been read for ids.
	readTo bson.Timestamp
	// unread says that the topics may not be read back.
	unread bool
	saved  time.Time
	meter  meter
	// unproducible counts versions that only history tells of and no event can be
	// made of.
	unproducible int64
}

// repair is the whole of it.
func (a *attempt) repair(ctx context.Context) (resumetoken.Position, error) {
	if err := a.begin(ctx); err != nil {
		return a.position, err
	}
	if !a.Mapper.Windowed() {
		if err := a.readBack(ctx); err != nil {
			return a.position, err
		}
	}
	steps := a.steps()
	for i, s := range steps {
		if i > 0 && s.form == mapper.History && steps[i-1].form == mapper.Current {
			if _, err := a.awaitHistory(ctx); err != nil {
				return a.position, err
			}
		}
		if err := a.step(ctx, s); err != nil {
			return a.position, err
		}
	}
	return a.end(ctx)
}

// begin takes up the stored state, or begins a repair. A repair begins by taking the token
// at which the live stream goes on, before anything is read.
func (a *attempt) begin(ctx context.Context) error {
	stored := a.position.Repair
	if stored != nil && stored.Fingerprint == a.Changes.Fingerprint() {
		// In another cluster, maybe the third, the cursor tells nothing: what was scanned is
		// another's. That is lost history too, and the repair begins anew.
		if _, err := a.Changes.Begin(ctx, watcher.From{ClusterTime: stored.ClusterTime, History: stored.History}); err != nil {
			return fmt.Errorf("go on with the repair: %w", err)
		}
		a.state = *stored
		a.beginsAt(stored.Since)
		a.readTo = stored.ClusterTime
		a.log.Info("repair of lost history goes on", zap.Time("since", a.since), zap.String("collection", stored.Step), zap.Int64("events", stored.Events))
		if stored.Step != "" {
			return nil
		}
		return wait.Sleep(ctx, a.Settle) // which the attempt before may not have done
	}
	var from watcher.From
	a.state = resumetoken.Repair{Fingerprint: a.Changes.Fingerprint()}
	if stored != nil {
		// The pipeline has changed in the middle of a repair. The repair scans anew, but the live
		// stream goes on where it was meant to: later changes may have left less in the collections.
		from.ClusterTime, from.History = stored.ClusterTime, stored.History
		a.state.Events, a.state.DeadLetters, a.state.Since = stored.Events, stored.DeadLetters, stored.Since
		a.state.Began = stored.Began
	}
	token, err := a.Changes.Begin(ctx, from)
	if err != nil {
		return fmt.Errorf("take a fresh token: %w", err)
	}
	at, ok := tokens.ClusterTime(token)
	if ok && stored == nil && a.Mapper.Windowed() {
		// The windows that the live stream publishes are whole ones.
		whole := watcher.From{ClusterTime: bson.Timestamp{T: a.Mapper.WindowAt(at.T).Start}, OrFirst: true}
		if token, err = a.Changes.Begin(ctx, whole); err != nil {
			return fmt.Errorf("take a fresh token: %w", err)
		}
		at, ok = tokens.ClusterTime(token)
	}
	if !ok {
		return errors.New("take a fresh token: its time cannot be read; MongoDB 6.0 or newer is needed")
	}
	a.state.Token, a.state.ClusterTime, a.state.History, a.readTo = token, at, a.Changes.History(), at
	if a.state.Began.IsZero() {
		a.state.Began = time.Now().UTC()
	}
	if err := a.beforePosition(ctx); err != nil {
		return err
	}
	a.log.Error("history lost: the changes of a time are no longer in the oplog; their events are made from the collections",
		zap.Time("since", a.since), zap.Time("until", time.Unix(int64(at.T), 0).UTC()))
	if err := a.Audit(ctx, publisher.AuditGap, a.gap()); err != nil {
		return err
	}
	if err := a.commit(ctx, nil, nil); err != nil {
		return err
	}
	// The last versions before the token may still wait for their history.
	return wait.Sleep(ctx, a.Settle)
}

// beforePosition has the gap begin with the last change before the position, if the oplog is
// another history's that reaches further back: the documents may have been written there
// while the position still moved on in an idle one, as in a move to another cluster.
func (a *attempt) beforePosition(ctx context.Context) error {
	if watcher.Replaced(a.position.History, a.Changes.History()) && a.state.Since.IsZero() {
		window, err := replay.Retry(ctx, func() (watcher.Window, error) { return a.Changes.Window(ctx) })
		if err != nil {
			return fmt.Errorf("find the beginning of the oplog: %w", err)
		}
		if !window.Whole || !a.position.ClusterTime.Before(window.Oldest) {
			a.state.Since = a.position.WallTime
		}
	}
	a.beginsAt(a.state.Since)
	return nil
}

// beginsAt has the gap begin at a time before the position.
func (a *attempt) beginsAt(since time.Time) {
	if !since.IsZero() && since.Before(a.since) {
		a.since = since
	}
}

// gap are the details of the gap for the audit topic.
func (a *attempt) gap() map[string]any {
	position := func(t bson.Timestamp) map[string]uint32 { return map[string]uint32{"t": t.T, "i": t.I} }
	return map[string]any{
		"since": a.since, "until": time.Unix(int64(a.state.ClusterTime.T), 0).UTC(),
		"sinceClusterTime": position(a.position.ClusterTime), "untilClusterTime": position(a.state.ClusterTime),
	}
}

// clocks is how far three clocks may lie apart in a row: that of the FHIR server,
// which dates versions, MongoDB's, which dates changes, and this process's, which
// dates records.
const clocks = 3

// readBack learns which events about and after the lost position the topics hold, or
// which have come since they were read back last.
func (a *attempt) readBack(ctx context.Context) error {
	if a.IDsSince == nil {
		a.unread = true
		return nil
	}
	began, since := time.Now(), a.since
	if !a.readAt.IsZero() {
		since = a.readAt
	}
	err := a.IDsSince(ctx, since.Add(-clocks*a.Tolerance), a.known.add)
	if errors.Is(err, publisher.ErrNotReadable) {
		a.unread, a.known = true, newKnown()
		a.log.Warn("the topics may not be read, so events about the lost position may come twice, with the same ids", zap.Error(err))
		return nil
	}
	if err != nil {
		return err
	}
	a.readAt = began
	a.log.Info("read back what the topics hold", zap.Int("events", a.known.count), zap.Duration("took", time.Since(began)))
	return nil
}

// end moves the stream to the token, which ends the repair.
func (a *attempt) end(ctx context.Context) (resumetoken.Position, error) {
	next := resumetoken.Position{
		Stream: a.position.Stream, Token: a.state.Token, ClusterTime: a.state.ClusterTime, Fingerprint: a.state.Fingerprint, History: a.Changes.History(),
		WallTime: time.Unix(int64(a.state.ClusterTime.T), 0).UTC(), Paused: a.position.Paused,
		Published: resumetoken.Ahead(a.position.Published, a.state.Token),
	}
	if a.Mapper.Windowed() {
		next.Window = &resumetoken.Window{}
	}
	details := a.gap()
	details["events"], details["deadLetters"], details["unproducible"] = a.state.Events, a.state.DeadLetters, a.unproducible
	details["boundaryUnread"] = a.unread
	details["seconds"] = time.Since(a.state.Began).Seconds()
	if err := a.Audit(ctx, publisher.AuditRepaired, details); err != nil {
		return a.position, err
	}
	if err := a.publisher.Commit(ctx, &publisher.Batch{Position: next}); err != nil {
		return a.position, fmt.Errorf("store the position after the repair: %w", err)
	}
	a.log.Info("lost history is repaired; going on live", zap.Int64("events", a.state.Events), zap.Int64("deadLetters", a.state.DeadLetters),
		zap.Int64("unproducible", a.unproducible), zap.Duration("took", time.Since(a.state.Began).Round(time.Millisecond)))
	return next, nil
}

// commit publishes events and failures together with the state after them.
func (a *attempt) commit(ctx context.Context, events []mapper.Event, failures []mapper.Failure) error {
	a.state.Events += int64(len(events))
	a.state.DeadLetters += int64(len(failures))
	state := a.state
	a.position.Repair = &state
	if err := a.publisher.Commit(ctx, &publisher.Batch{Events: events, Failures: failures, Position: a.position}); err != nil {
		return fmt.Errorf("commit repaired events: %w", err)
	}
	a.saved = time.Now()
	return nil
}
