package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Repairer makes up for the changes after a position that the oplog no longer holds.
type Repairer interface {
	// Repair publishes through p what was missed, and returns the position to go on
	// at, which it has committed. It keeps its own state in the positions that it
	// commits, and goes on with the one that it finds in position. report may be
	// called from any goroutine.
	Repair(ctx context.Context, p Publisher, position resumetoken.Position, report func(RepairProgress)) (resumetoken.Position, error)
}

// RepairProgress tells how far a repair has come.
type RepairProgress struct {
	// Since is the time of the position whose history is lost, Began when the repair
	// of it began.
	Since, Began time.Time
	// Collection is the one being scanned; Scanned of about Total of its documents
	// have been looked at.
	Collection     string
	Scanned, Total int64
	// Events and DeadLetters count what the repair has published.
	Events, DeadLetters int64
	// Rate is the number of documents looked at in a second, and Left the time that
	// the rest of the collection takes at this rate; zero if not known.
	Rate float64
	Left time.Duration
	// WaitsFor is what the repair waits for, such as another slice, and why; "" while it
	// does not.
	WaitsFor string
}

// errHistoryLost is a lost history that the next attempt begins to repair.
var errHistoryLost = errors.New("the oplog no longer holds the stream's position; a repair publishes the missed changes from the collections")

// repairs returns errHistoryLost where the next attempt answers an error with a repair, and
// the error itself otherwise. A hint for those who have no Repairer is left out.
func (s *Stream) repairs(err error) error {
	var known *watcher.Error
	if s.opts.Repairer == nil || !errors.As(err, &known) || known.Class != watcher.HistoryLost {
		return err
	}
	s.lost = true
	err = fmt.Errorf("%w: %s", errHistoryLost, known.WithoutHint())
	s.log.Error("stream begins a repair", zap.Error(err))
	return err
}

// repaired brings a position whose history is lost to one that can be read on from.
// A pause holds it up, before it begins and in the middle.
func (s *Stream) repaired(ctx context.Context, p *countingPublisher, position resumetoken.Position) (resumetoken.Position, error) {
	if s.opts.Repairer == nil || (!s.lost && position.Repair == nil) {
		return position, nil
	}
	position, err := s.hold(ctx, p, position)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return position, err
	}
	if position.Repair == nil && s.reaches(ctx, position) {
		// Only the token is of no use: the server refuses it, but still has the changes.
		s.log.Warn("the oplog still reaches back to the position's time; going on there")
		s.lost = false
		position.Fingerprint = ""
		return position, nil
	}
	s.progress.state(Repairing)
	defer s.progress.repair(nil)
	repairing, stop := s.pauseRequest.untilPause(ctx)
	defer stop()
	repaired, err := s.opts.Repairer.Repair(repairing, p, position, func(r RepairProgress) { s.progress.repair(&r) })
	if err != nil && repairing.Err() != nil && ctx.Err() == nil && !final(err) {
		return position, errToPause
	}
	if err != nil {
		return position, fmt.Errorf("repair lost history: %w", err)
	}
	s.lost = false
	return repaired, nil
}

// errToPause ends an attempt whose repair an operator has paused. A commit may have been under
// way, so the next attempt finds out where the repair is, and holds there.
var errToPause = errors.New("the repair is paused")

// reaches tells whether the oplog still holds everything after a position, and whether the
// position's token can be compared with the tokens of later changes.
//
// Opening a stream there is no proof: it is opened with an empty first batch, and the
// server looks for the place in the oplog only when it is asked for more. Nor is reading
// it, since the server reads an oplog that begins with its replica set from any time on:
// so the source has to know that it is the position's own.
func (s *Stream) reaches(ctx context.Context, position resumetoken.Position) bool {
	if _, ok := tokens.ClusterTime(position.Token); !ok {
		return false
	}
	chunks := 0
	err := s.parts.Source.Run(ctx, watcher.From{ClusterTime: position.ClusterTime, History: position.History, Proof: true}, func(_ context.Context, c watcher.Chunk) error {
		if chunks++; len(c.Changes) > 0 || chunks >= provingChunks {
			return errReaches
		}
		return nil
	})
	return errors.Is(err, errReaches)
}

// provingChunks is how many chunks without changes prove that the oplog reaches back:
// the first may be the empty batch that a stream is opened with.
const provingChunks = 3

// errReaches ends the look.
var errReaches = errors.New("the oplog reaches back")
