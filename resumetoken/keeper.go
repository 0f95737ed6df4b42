package resumetoken

import (
	"context"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Owner says who acquired a stream last.
type Owner struct {
	// Instance names the process, as its configuration does.
	Instance string
	// Since is when it acquired the stream.
	Since time.Time
	// Stopped is when it gave the stream up in order. It is zero while the process
	// runs, and after a crash.
	Stopped time.Time
	// Seen is when it stored something last.
	Seen time.Time
}

// Stored is what a store holds of a stream.
type Stored struct {
	// Position is the newest position, the zero one if there is none.
	Position Position
	// Saved is when it was stored.
	Saved time.Time
	// Owner is zero if nobody ever acquired the stream.
	Owner Owner
	// Held says that the store knows for certain that a process has the stream now;
	// only the file, which is locked, knows it.
	Held bool
	// Now is the clock that the times are to be compared with: the store's own where
	// it has one.
	Now time.Time
}

// Keeper is a Store as an operator's commands use it.
type Keeper interface {
	Store
	// Inspect reads what is stored without acquiring the stream: its owner notices
	// nothing.
	Inspect(ctx context.Context) (Stored, error)
	// History reads the positions that are kept beside the newest, oldest first: the
	// first of each of the last 48 hours in which the stream moved.
	History(ctx context.Context) ([]Position, error)
	// Reset stores a position that an operator has chosen, which may lie before the
	// stored one. The stream must have been acquired.
	Reset(ctx context.Context, p Position) error
}

// Glance reads the position that a store holds for its stream, zero if there is none,
// without acquiring the stream and without waiting for anybody.
func Glance(ctx context.Context, store Keeper) (Position, error) {
	if quick, ok := store.(interface {
		Glance(ctx context.Context) (Position, error)
	}); ok {
		return quick.Glance(ctx)
	}
	stored, err := store.Inspect(ctx)
	return stored.Position, err
}

// inOrder sorts positions by their time and keeps of each hour the one that is last
// in the list.
func inOrder(positions []Position) []Position {
	byHour := make(map[time.Time]Position, len(positions))
	for _, p := range positions {
		byHour[hourOf(p.ClusterTime)] = p
	}
	kept := make([]Position, 0, len(byHour))
	for _, p := range byHour {
		kept = append(kept, p)
	}
	slices.SortFunc(kept, func(a, b Position) int { return a.ClusterTime.Compare(b.ClusterTime) })
	return kept[max(0, len(kept)-historyHours):]
}

// newHour tells whether a position is the first of an hour that follows last's.
func newHour(last, next bson.Timestamp) bool { return hourOf(next).After(hourOf(last)) }
