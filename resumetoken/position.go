package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Position is where a stream stands: everything up to and including it has been
// published.
type Position struct {
	// Stream is the stream's name, the key of its position in every store.
	Stream string
	// Token is the resume token as the server gave it, copied (never a slice of
	// a reply). It is opaque; it is compared for equality only.
	Token bson.Raw
	// ClusterTime is the oplog time of the last change before the position, or
	// of the server's post-batch token if the stream was idle. A stream whose
	// pipeline has changed goes on from here.
	ClusterTime bson.Timestamp
	// WallTime is the server's wall clock at that change (zero if not known). It
	// is for people and metrics, never for decisions.
	WallTime time.Time
	// Fingerprint is the hash of the pipeline that the token belongs to. A token
	// is only valid under the pipeline that it was taken from.
	Fingerprint string
	// Paused says that an operator holds the stream here: whoever owns it next keeps
	// it and reads nothing until it is told to go on.
	Paused bool
	// Repair is set while what was lost after the position is being made up for.
	Repair *Repair
	// Layout is the id of the layout of streams that the position belongs to, ""
	// for an installation that has never had any but the initial one.
	Layout string
	// Published is what other streams had published beyond this position when they
	// handed their collections over; it is left out when this stream comes to it.
	Published []Published
	// HandedTo is the generation of the layout that the stream has been handed over
	// to; 0 for a stream that has not been. Nothing goes on from a sealed position but
	// by Handover.
	HandedTo int
}

// IsZero tells whether there is no position.
func (p Position) IsZero() bool { return len(p.Token) == 0 }

// ErrNone is returned by Store.Acquire for a stream that has never had a position.
var ErrNone = errors.New("no position stored")

// ErrDeleted is the ErrNone of a stream whose position an operator has deleted, so
// that it starts anew. Not every store can tell.
var ErrDeleted = fmt.Errorf("%w: it has been deleted", ErrNone)

// ErrFenced says that another process has become the stream's owner. Nothing of
// this process can be committed any more.
var ErrFenced = errors.New("another process owns the stream")

// ErrBackwards is what Store.Save returns for a position whose cluster time lies
// before that of the stored one.
var ErrBackwards = errors.New("position would go backwards")

// errNotAcquired is a caller's mistake: Save before Acquire, after Close, or
// after an error that calls for a new Acquire.
var errNotAcquired = errors.New("the stream has not been acquired since the last error")

// Store is the durable home of one stream's position.
type Store interface {
	// Acquire makes this process the owner, which shuts out any predecessor,
	// and returns the position that was stored last, or ErrNone.
	Acquire(ctx context.Context) (Position, error)
	// Save stores the position. It returns ErrFenced if another process has
	// acquired the stream since, and ErrBackwards for a position before the
	// stored one. After any other error it is not known whether the position
	// has been stored: Acquire tells.
	Save(ctx context.Context, p Position) error
	// Close releases what the store holds. The position stays.
	Close(ctx context.Context) error
}
