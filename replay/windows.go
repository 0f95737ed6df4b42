package replay

import (
	"context"
	"errors"
	"fmt"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// readWindows is Read for a stream of windows. The span is widened to whole windows: of another
// part of a window the events would be others under the same ids. A window that the oplog has a
// part of, at its beginning or so far, is left out.
func (r *Reader) readWindows(ctx context.Context, s StreamOplog, span watcher.Span, each func(context.Context, Part) error) error {
	begin, end := s.Mapper.WindowAt(span.From.T), s.Mapper.WindowAt(span.UntilTime.T)
	whole := span
	whole.From, whole.After = bson.Timestamp{T: begin.Start}, nil
	cut := false
	err := Reach(ctx, s, whole)
	var beyond *BeyondOplogError
	switch {
	case errors.As(err, &beyond):
		whole.From, cut = span.From, span.From != whole.From
	case err != nil:
		return err
	}
	now, err := s.Oplog.Now(ctx)
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.Name, err)
	}
	whole.UntilTime = bson.Timestamp{T: end.End - 1, I: math.MaxUint32}
	if whole.UntilTime.After(now) {
		whole.UntilTime = now
	}
	t := daemon.NewWindowTranslation(s.Mapper, r.Facts, r.MaxEventBytes)
	left := func(w mapper.Window) {
		if r.LeftOut != nil {
			r.LeftOut(s.Name, w)
		}
	}
	if cut && !r.parts {
		left(begin)
	}
	return r.read(ctx, s, whole, func(ctx context.Context, c watcher.Chunk, emit func(mapper.Output) error) error {
		changes := c.Changes
		for cut && !r.parts && len(changes) > 0 {
			if at, _, _ := changes[0].Lookup("clusterTime").TimestampOK(); at >= begin.End {
				break
			}
			changes = changes[1:]
		}
		some := false
		err := t.Append(ctx, changes, c.Token, func(out mapper.Output) error {
			some = true
			return emit(out)
		})
		if err != nil || some {
			return err
		}
		return emit(mapper.Output{}) // It tells how far the reading has come.
	}, func(ctx context.Context, emit func(mapper.Output) error) error {
		w, open := t.Unfinished()
		if !open {
			return nil
		}
		if !r.parts && whole.UntilTime.Before(bson.Timestamp{T: w.End - 1, I: math.MaxUint32}) {
			left(w)
			return nil
		}
		return t.End(ctx, whole.UntilTime, emit)
	}, each)
}
