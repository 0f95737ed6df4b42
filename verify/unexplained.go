package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// secondLook finds, for records that the first look does not explain, whether they are of changes
// further back: a stream that lags publishes old changes late.
func (v *verification) secondLook(ctx context.Context) error {
	return inBlocks(v.compare.unexplained, func(unexplained []entry) error {
		cleared := make([]bool, len(unexplained))
		for i := range v.Streams {
			before := watcher.Span{From: clusterTime(v.Since.Add(-v.MaxLag)), UntilTime: replay.Before(v.spans[i].From)}
			if before.From.After(before.UntilTime) || v.begins[i].scanned {
				continue
			}
			lost, err := v.clear(ctx, i, before, unexplained, cleared)
			if err == nil && lost {
				err = v.clearBeyond(ctx, i, before, unexplained, cleared)
			}
			if err != nil {
				return err
			}
		}
		v.compare.judgeUnexplained(unexplained, cleared, v.report)
		return nil
	})
}

// clear marks the records whose events a span of the oplog tells of. lost says that the
// oplog does not hold it any more.
func (v *verification) clear(ctx context.Context, stream int, span watcher.Span, unexplained []entry, cleared []bool) (lost bool, err error) {
	err = v.idsOf(ctx, stream, span, func(p replay.Part) error {
		for i := range p.Events {
			mark(unexplained, p.Events[i].ID, cleared)
		}
		return nil
	})
	if lost := new(watcher.Error); errors.As(err, &lost) && lost.Class == watcher.HistoryLost {
		return true, nil
	}
	return false, err
}

// clearBeyond looks for the unexplained in the rest of the span's oplog, else in the collections and
// their history. A record that neither knows is unseen: history may have lost its version, unless
// there cannot have been any.
func (v *verification) clearBeyond(ctx context.Context, stream int, span watcher.Span, unexplained []entry, cleared []bool) error {
	s, end := v.Streams[stream], v.spans[stream].From
	left := s.Window(ctx)
	if !left.Oldest.IsZero() && left.Oldest.Before(span.UntilTime) {
		lost, err := v.clear(ctx, stream, watcher.Span{From: left.Oldest, UntilTime: span.UntilTime}, unexplained, cleared)
		if err != nil {
			return err
		}
		if !lost {
			end = left.Oldest
		}
	}
	// A set whose oplog is whole, and that holds nothing from before it, began empty.
	empty := left.Whole && end == left.Oldest
	around := replay.Period{Since: replay.Time(span.From).Add(-v.Tolerance), Until: replay.Time(end).Add(v.Tolerance)}
	err := v.scanCollections(ctx, s, around, func(_ context.Context, _ mapper.Form, changes []mapper.Change) error {
		for i := range changes {
			if at, known := changes[i].Written(); !known || at.Before(replay.Time(end)) {
				empty = false
			}
			for _, e := range replay.Bare(s.Mapper, &changes[i]).Events {
				mark(unexplained, e.ID, cleared)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	if empty {
		return nil
	}
	v.compare.unseenBefore = max(v.compare.unseenBefore, replay.Time(end).Add(max(v.MaxLag, clockMargin)).UnixMilli())
	v.report.noteOnce(fmt.Sprintf("stream %s: the oplog begins at %s. Records of changes between %s and then were looked for by what the collections and their history hold; "+
		"those that are not found count as unseen. A repair of lost history or a backfill publishes older ones: --max-lag looks further back",
		s.Name, replay.Clock(end), replay.Clock(span.From)))
	return nil
}
