package positions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/wait"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Change is the result of fhir-cdc position set.
type Change struct {
	Stream string `json:"stream"`
	// Before is nil for a stream that had no position.
	Before *Shown `json:"before"`
	After  Shown  `json:"after"`
	// Direction is backwards, forwards or none, against the old position's time.
	Direction string `json:"direction"`
	// TakenFrom is the process that carried the stream, with --force.
	TakenFrom string `json:"takenFrom,omitempty"`
	// GoesOnSeconds is how long the group waits before it starts the stream again;
	// zero without a group.
	GoesOnSeconds float64 `json:"goesOnSeconds,omitempty"`
	DryRun        bool    `json:"dryRun"`
}

// Set changes the position of a stream, unless it is dryRun. A stream that runs is refused
// without force.
func Set(ctx context.Context, o *installation.Installation, stream string, to Target, force, dryRun bool) (Change, error) {
	p, err := o.Stream(stream)
	if err != nil {
		return Change{}, err
	}
	keeper, err := o.Keeper(ctx, p, true)
	if err != nil {
		return Change{}, err
	}
	stored, err := keeper.Inspect(ctx)
	if err != nil {
		return Change{}, err
	}
	carrier, err := mayBeTaken(ctx, o, stream, stored, force)
	if err != nil {
		return Change{}, err
	}
	position, err := positionAt(ctx, o, p, to)
	if err != nil {
		return Change{}, err
	}
	if !dryRun {
		if stored.Position, err = storePosition(ctx, o, keeper, position, to, carrier); err != nil {
			return Change{}, err
		}
	}
	result := Change{Stream: stream, After: Show(position), Direction: "none", TakenFrom: carrier, DryRun: dryRun}
	if carrier != "" && o.Config.ReplicasByKafka() {
		result.GoesOnSeconds = (installation.ReclaimAfter * o.Config.SessionTimeout).Seconds()
	}
	if before := stored.Position; !before.IsZero() {
		shown := Show(before)
		result.Before = &shown
		switch c := position.ClusterTime.Compare(before.ClusterTime); {
		case c < 0:
			result.Direction = "backwards"
		case c > 0:
			result.Direction = "forwards"
		}
	}
	return result, nil
}

// mayBeTaken refuses a stream that runs, and names who carries it.
func mayBeTaken(ctx context.Context, o *installation.Installation, stream string, stored resumetoken.Stored, force bool) (carrier string, err error) {
	running, err := newLiveness(ctx, o)
	if err != nil {
		return "", err
	}
	runs, carrier := running.carrier(stream, stored)
	group := fmt.Sprintf("group %s, whose replicas come or go (%s)", o.Config.Name, running.unsettled)
	switch {
	case running.unsettled != "" && !force:
		return "", installation.Usagef("who carries stream %s cannot be told by %s: try again when they have settled, or take the stream with --force", stream, group)
	case running.unsettled != "":
		return group, nil
	case !runs:
		return "", nil
	case stored.Held:
		return "", installation.Usagef("stream %s is carried by %s, whose position file cannot be taken away: stop it first", stream, carrier)
	case !force && stored.Position.Paused:
		return "", installation.Usagef("stream %s is paused, but still carried by %s: end that process first, or take the stream from it with --force", stream, carrier)
	case !force:
		return "", installation.Usagef("stream %s is carried by %s: stop it first, or take the stream from it with --force", stream, carrier)
	}
	return carrier, nil
}

// positionAt asks the server for the position and proves it by opening the stream
// there, under the present pipeline.
func positionAt(ctx context.Context, o *installation.Installation, p installation.PlannedStream, to Target) (resumetoken.Position, error) {
	if err := o.Clients.Reach(ctx, p.Place); err != nil {
		return resumetoken.Position{}, err
	}
	w, err := o.Watcher(p)
	if err != nil {
		return resumetoken.Position{}, err
	}
	token, clusterTime := to.Token, to.At
	if !clusterTime.IsZero() {
		if err := notAhead(ctx, w, clusterTime); err != nil {
			return resumetoken.Position{}, err
		}
	}
	if token == nil {
		token, err = w.Begin(ctx, watcher.From{ClusterTime: clusterTime})
	}
	if err == nil {
		probing, cancel := context.WithTimeout(ctx, installation.ServerSelection)
		defer cancel()
		err = w.Probe(probing, watcher.From{Token: token})
	}
	if err != nil {
		var known *watcher.Error
		if errors.As(err, &known) && known.Class == watcher.HistoryLost {
			return resumetoken.Position{}, installation.Usagef("%s", whyLost(ctx, w, to))
		}
		if to.Token != nil && watcher.RefusedToken(err) {
			return resumetoken.Position{}, installation.Usagef("MongoDB does not take the token: it is changed, or of another cluster; use one that fhir-cdc position history shows, or --from-time")
		}
		return resumetoken.Position{}, err
	}
	if to.AfterChange {
		if token, err = afterTime(ctx, w, to.At, token); err != nil {
			return resumetoken.Position{}, err
		}
	}
	var ok bool
	if clusterTime, ok = tokens.ClusterTime(token); !ok {
		return resumetoken.Position{}, errors.New("the form of the server's resume token is not known, so its time cannot be read")
	}
	return resumetoken.Position{
		Stream: p.Name, Token: token, ClusterTime: clusterTime, WallTime: timeOf(clusterTime), Fingerprint: w.Fingerprint(), History: w.History(),
	}, nil
}

// whyLost says what the server's refusal of a position means.
func whyLost(ctx context.Context, w *watcher.Watcher, to Target) string {
	oldest := ""
	if window, err := w.Window(ctx); err == nil && !window.Oldest.IsZero() {
		oldest = fmt.Sprintf(" (it begins at %s)", terminal.Time(timeOf(window.Oldest)))
	}
	if to.Token != nil {
		return "the token cannot be resumed from: the oplog no longer holds it" + oldest + ", or it belongs to another pipeline; use --from-time"
	}
	return fmt.Sprintf("the oplog no longer holds %s%s; fhir-cdc backfill publishes what is older", to.Name, oldest)
}

// storePosition takes the stream, records the change and makes it, in this order: a
// change without its record must not be.
func storePosition(ctx context.Context, o *installation.Installation, keeper resumetoken.Keeper, position resumetoken.Position, to Target, carrier string) (before resumetoken.Position, err error) {
	defer func() {
		if e := keeper.Close(context.WithoutCancel(ctx)); e != nil && err == nil {
			err = e
		}
	}()
	if before, err = keeper.Acquire(ctx); err != nil && !errors.Is(err, resumetoken.ErrNone) {
		return before, err
	}
	details := map[string]any{"to": to.Name, "after": Show(position)}
	if !before.IsZero() {
		details["before"] = Show(before)
	}
	if carrier != "" {
		details["takenFrom"] = carrier
	}
	if err := o.Sink.Record(ctx, installation.Operator(), position.Stream, publisher.AuditPositionSet, details); err != nil {
		return before, fmt.Errorf("the position is unchanged: %w", err)
	}
	position.Counts = before.Counts // What was published stays published.
	return before, keeper.Reset(ctx, position)
}

// notAhead refuses a position that the cluster has not reached: the changes up to it would
// silently never be published. It waits up to aheadPatience for the cluster to reach it.
func notAhead(ctx context.Context, w *watcher.Watcher, position bson.Timestamp) error {
	for until := time.Now().Add(aheadPatience); ; {
		now, err := w.Now(ctx)
		if err != nil {
			return err
		}
		ahead := timeOf(position).Sub(timeOf(now))
		switch {
		case !position.After(now):
			return nil
		case ahead > aheadPatience, time.Now().After(until):
			return installation.Usagef("%s lies ahead of the cluster, whose newest operation is of %s: what changes until then would never be published",
				terminal.Time(timeOf(position)), terminal.Time(timeOf(now)))
		}
		if err := wait.Sleep(ctx, aheadPause); err != nil {
			return err
		}
	}
}

// aheadPatience is how far a position may be ahead of the newest operation that is known:
// a quiet cluster's members and routers tell each other of the time every ten seconds.
const aheadPatience = 12 * time.Second

// aheadPause is the time between two questions for the newest operation.
const aheadPause = 500 * time.Millisecond

// afterTime is the token after the change of a cluster time, given the token before it. If
// several changes have that time, as in a transaction, the stream may have stood between
// them: then it is the token before all of them. They come again: to lose one would be worse.
func afterTime(ctx context.Context, w *watcher.Watcher, at bson.Timestamp, before bson.Raw) (bson.Raw, error) {
	token, changes := before, 0
	err := w.ReadSpan(ctx, watcher.Span{From: at, UntilTime: at, History: w.History()}, func(_ context.Context, c watcher.Chunk) error {
		for _, raw := range c.Changes {
			if id, ok := raw.Lookup("_id").DocumentOK(); ok {
				token = bytes.Clone(id)
			}
			changes++
		}
		return nil
	})
	if err != nil || changes != 1 {
		return before, err
	}
	return token, nil
}

// Target is where a stream is to go on: now, if there is neither a time nor a token.
type Target struct {
	// Name is the target's in messages and on record.
	Name string
	// At is the target's time, also a token's; AfterChange leaves out the change of that time.
	At          bson.Timestamp
	AfterChange bool
	Token       bson.Raw
}
