package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// A history does not tell which slice a resource was in. What its slice can still tell
// of a resource by its current document is its slice's to publish. The rest is what the
// history alone tells of: the versions of a resource that is gone, and those from before
// a resource was deleted and came again, maybe in another slice. Every repair sees to
// all of it that it does not know, whichever slice it was in. So it need not know where
// the resource was for nothing to be lost, and these keep events from coming twice:
//
//   - What has changed in any slice since the repair's beginning is known from the oplog:
//     it comes live, or a repair that has begun later sees to it.
//   - What had changed before in a slice that is not in a repair is in the topics up to
//     its stored position, and comes live after it: the oplog tells of that.
//   - Repairs take turns, in the order of their beginnings. One that has begun later has
//     at least scanned its current documents, so what it publishes of these is in the
//     topics too.
//
// A slice that begins a repair only now has the later beginning, and waits itself. Scans
// of current documents wait for nothing, so some repair can always go on.

// Sibling is another slice of the stream's group.
type Sibling struct {
	Stream string
	// Index is its number among the slices, from 0.
	Index int
	// Position is its stored position, zero if it has not begun as a slice of this group.
	Position resumetoken.Position
}

// turnPoll is the pause between two looks at the other slices.
const turnPoll = time.Second

// historyOnly chooses from versions of a history those that no slice tells of by the
// current document of their resource. What the own slice should have met is among them:
// its history may have come late.
func (a *repairing) historyOnly(ctx context.Context, history Source, changes []mapper.Change) ([]mapper.Change, error) {
	i := slices.IndexFunc(a.Current, func(s Source) bool { return s.Namespace == history.Namespace })
	elsewhere, err := a.Scanner.present(ctx, a.Current[i], changes)
	if err != nil {
		return nil, err
	}
	deleted, err := a.Scanner.deleted(ctx, history, changes)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(changes, func(c mapper.Change) bool {
		v, ok := c.RequestedVersion()
		return !ok || elsewhere[v.UUID] && v.LastUpdated >= deleted[v.UUID]
	}), nil
}

// thisLife leaves out, of the versions that come with current documents, those from
// before their resource was deleted.
func (a *repairing) thisLife(ctx context.Context, history Source, current, changes []mapper.Change) ([]mapper.Change, error) {
	if len(changes) == len(current) {
		return changes, nil
	}
	deleted, err := a.Scanner.deleted(ctx, history, current)
	if err != nil || len(deleted) == 0 {
		return changes, err
	}
	own := map[string]mapper.Version{}
	for i := range current {
		if v, ok := current[i].RequestedVersion(); ok {
			own[v.UUID] = v
		}
	}
	return slices.DeleteFunc(changes, func(c mapper.Change) bool {
		v, ok := c.RequestedVersion()
		return ok && v.LastUpdated < deleted[v.UUID] && v != own[v.UUID]
	}), nil
}

// takeTurn waits until what the other slices publish of the time before the repair's
// beginning is in the topics, and reads it back. It is needed once in an attempt, before
// the first version that only the history tells of.
func (a *repairing) takeTurn(ctx context.Context) error {
	if a.turned || a.unread {
		return nil
	}
	if a.Siblings != nil {
		// Others see that the scan of current documents is over.
		if err := a.commit(ctx, nil, nil); err != nil {
			return err
		}
		if err := a.awaitTurn(ctx); err != nil {
			return err
		}
	}
	a.turned = true
	return a.readBack(ctx)
}

func (a *repairing) awaitTurn(ctx context.Context) error {
	waiting := newMeter(0)
	defer func() { a.waitsFor = "" }()
	for {
		siblings, err := retry(ctx, func() ([]Sibling, error) { return a.Siblings(ctx) })
		if err != nil {
			return fmt.Errorf("look at the other slices: %w", err)
		}
		stream, why := first(siblings, a.awaits)
		if stream == "" {
			if stream, why, err = a.comesLive(ctx, siblings); err != nil {
				return err
			}
		}
		if stream == "" {
			return nil
		}
		a.waitsFor = fmt.Sprintf("%s, which %s", stream, why)
		a.tell()
		if waiting.due(a.ReportInterval) {
			a.log.Warn("the repair waits for another slice: the history does not tell in which of them a deleted resource was",
				zap.String("waitsFor", stream), zap.String("because", "it "+why))
		}
		if err := wait(ctx, turnPoll); err != nil {
			return err
		}
	}
}

// first is the first of the slices that there is a reason to wait for.
func first(siblings []Sibling, awaits func(Sibling) string) (stream, why string) {
	for _, s := range siblings {
		if why := awaits(s); why != "" {
			return s.Stream, why
		}
	}
	return "", ""
}

// awaits says why another slice has to be waited for, and what to do about it; "" if it
// has not.
func (a *repairing) awaits(s Sibling) string {
	p := s.Position
	switch {
	case p.IsZero():
		return "has not begun: start a daemon that carries it"
	case p.Repair == nil:
		return ""
	}
	why := ""
	switch {
	case cmp.Or(p.Repair.ClusterTime.Compare(a.state.ClusterTime), cmp.Compare(s.Index, a.Slice.Index)) < 0:
		why = "is in a repair that has begun before this one: see that a daemon carries it"
	case !slices.ContainsFunc(a.History, func(h Source) bool { return h.Name() == p.Repair.Step }):
		why = "is in a repair and still scans current documents: see that a daemon carries it"
	default:
		return ""
	}
	if p.Paused {
		why += ", and resume it, for it is paused"
	}
	return why
}

// comesLive adds what slices that are not in a repair have not published yet of the time
// before this repair's beginning. It names one that the oplog does not hold this of any
// more, and why it has to be waited for.
func (a *repairing) comesLive(ctx context.Context, siblings []Sibling) (stream, why string, err error) {
	for _, s := range siblings {
		p, slice := s.Position, watcher.Slice{Index: s.Index, Of: a.Slice.Of}
		if p.Repair != nil || !p.ClusterTime.Before(a.state.ClusterTime) {
			continue
		}
		span := watcher.Span{From: p.ClusterTime, UntilTime: Before(a.state.ClusterTime)}
		err := a.live().ReadSpan(ctx, span, func(_ context.Context, c watcher.Chunk) error {
			for _, raw := range c.Changes {
				// What cannot be told to be in that slice is not left to it.
				if holds, ok := slice.Holds(raw); ok && holds {
					a.learn(raw)
				}
			}
			return nil
		})
		var known *watcher.Error
		switch {
		case errors.As(err, &known) && known.Class == watcher.HistoryLost:
			why := "has lost its history and is not in a repair yet: see that a daemon carries it"
			if p.Paused {
				why += ", and resume it, for it is paused"
			}
			return s.Stream, why, nil
		case err != nil:
			return "", "", fmt.Errorf("read what slice %s has yet to publish: %w", s.Stream, err)
		}
	}
	return "", "", nil
}

// live is the change stream that tells what comes after the repair: that of all slices,
// where there are several.
func (a *repairing) live() RepairSource {
	if a.Slice.Of > 1 && a.Whole != nil {
		return a.Whole
	}
	return a.Source
}

var _ RepairSource = (*watcher.Watcher)(nil)
