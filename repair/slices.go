package repair

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/wait"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// A history document does not name the slice of its resource. If the resource still has a
// current document, the slice of that document publishes its versions. Orphaned versions
// remain: those of a resource that no longer exists, and those from before a resource was
// deleted and created again, maybe in another slice. Every repair publishes all orphaned
// versions of all slices that it does not know. So nothing is lost, and three rules keep
// events from coming twice:
//
//   - The repair learns the changes of all slices since its beginning from the oplog: their
//     slices publish them live, or by a repair that began later.
//   - A slice without a repair has published its changes up to its stored position, so they
//     are in the topics. It publishes the later ones live; the repair learns those from
//     the oplog.
//   - Repairs take turns, in the order of their beginnings. A repair waits until those that
//     began later have scanned their current documents, so that these events are in the
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

// historyOnly chooses the versions that no other slice publishes with a current document.
// Those with a current document in the own slice stay: their history may have come late.
func (a *attempt) historyOnly(ctx context.Context, history replay.Collection, changes []mapper.Change) ([]mapper.Change, error) {
	i := slices.IndexFunc(a.Current, func(s replay.Collection) bool { return s.Namespace == history.Namespace })
	elsewhere, err := a.scanner.Present(ctx, a.Current[i], changes)
	if err != nil {
		return nil, err
	}
	deleted, err := a.scanner.Deleted(ctx, history, changes)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(changes, func(c mapper.Change) bool {
		v, ok := c.Version()
		return !ok || elsewhere[v.UUID] && v.LastUpdated >= deleted[v.UUID]
	}), nil
}

// thisLife leaves out the versions from before their resource was deleted and created again.
func (a *attempt) thisLife(ctx context.Context, history replay.Collection, current, changes []mapper.Change) ([]mapper.Change, error) {
	if len(changes) == len(current) {
		return changes, nil
	}
	deleted, err := a.scanner.Deleted(ctx, history, current)
	if err != nil || len(deleted) == 0 {
		return changes, err
	}
	own := map[string]mapper.Version{}
	for i := range current {
		if v, ok := current[i].Version(); ok {
			own[v.UUID] = v
		}
	}
	return slices.DeleteFunc(changes, func(c mapper.Change) bool {
		v, ok := c.Version()
		return ok && v.LastUpdated < deleted[v.UUID] && v != own[v.UUID]
	}), nil
}

// takeTurn waits until the other slices' events from before the repair's beginning are in the
// topics, and reads them back. An attempt does it once, before its first orphaned version.
func (a *attempt) takeTurn(ctx context.Context) error {
	if a.turned || a.unread {
		return nil
	}
	if a.Siblings != nil {
		// The stored step shows the other slices that the scan of current documents is over.
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

func (a *attempt) awaitTurn(ctx context.Context) error {
	waiting := newMeter(0)
	defer func() { a.waitsFor = "" }()
	for {
		siblings, err := replay.Retry(ctx, func() ([]Sibling, error) { return a.Siblings(ctx) })
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
		if err := wait.Sleep(ctx, turnPoll); err != nil {
			return err
		}
	}
}

// first is the first slice that the repair has to wait for, and the reason.
func first(siblings []Sibling, awaits func(Sibling) string) (stream, why string) {
	for _, s := range siblings {
		if why := awaits(s); why != "" {
			return s.Stream, why
		}
	}
	return "", ""
}

// awaits says why the repair has to wait for another slice, and what to do about it; "" if
// it need not wait.
func (a *attempt) awaits(s Sibling) string {
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
	case !slices.ContainsFunc(a.History, func(h replay.Collection) bool { return h.Name() == p.Repair.Step }):
		why = "is in a repair and still scans current documents: see that a daemon carries it"
	default:
		return ""
	}
	if p.Paused {
		why += ", and resume it, for it is paused"
	}
	return why
}

// comesLive learns the changes from before this repair's beginning that slices without a
// repair have yet to publish. It names a slice whose changes the oplog no longer holds, and
// why the repair has to wait for that slice.
func (a *attempt) comesLive(ctx context.Context, siblings []Sibling) (stream, why string, err error) {
	for _, s := range siblings {
		p, slice := s.Position, watcher.Slice{Index: s.Index, Of: a.Slice.Of}
		if p.Repair != nil || !p.ClusterTime.Before(a.state.ClusterTime) {
			continue
		}
		span := watcher.Span{From: p.ClusterTime, UntilTime: replay.Before(a.state.ClusterTime), History: p.History}
		err := a.live().ReadSpan(ctx, span, func(_ context.Context, c watcher.Chunk) error {
			for _, raw := range c.Changes {
				// A change of an unknown slice is not left to that slice.
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

// live is the change stream that catchUp reads: that of all slices if there are several.
func (a *attempt) live() ChangeStream {
	if a.Slice.Of > 1 && a.Whole != nil {
		return a.Whole
	}
	return a.Changes
}

var _ ChangeStream = (*watcher.Watcher)(nil)
