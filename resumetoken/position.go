package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/tokens"
)

// Position is where a stream stands: everything up to and including it has been
// published.
type Position struct {
	// Stream is the stream's name, the key of its position in every store.
	Stream string
	// Token is the resume token as the server gave it, copied (never a slice of
	// a reply). It is opaque; only package tokens knows its form and order.
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
	// History names the history of the oplog that the token belongs to. It is "" if the
	// stream's source cannot name it, and in positions stored before this field existed.
	History string
	// Counts are what the stream has committed up to here; nil if nobody counted.
	Counts *Counts
	// Paused says that an operator holds the stream here: its next owner keeps the stream
	// and reads nothing until an operator resumes it.
	Paused bool
	// Repair is set while the changes lost after the position are being repaired.
	Repair *Repair
	// Layout is the id of the layout of streams that the position belongs to, ""
	// for an installation that has never had any but the initial one.
	Layout string
	// Published tells which changes beyond this position have been published: by other
	// streams before they handed their collections over, and by this one while changes right
	// after the position waited for their facts. The stream leaves these changes out when it
	// comes to them.
	Published []Published
	// Window is set in a stream whose events are of windows.
	Window *Window
	// HandedTo, the seal, is the generation of the layout that the stream has been handed over
	// to; 0 if it has not been handed over. Only layout.Handover goes on from a sealed
	// position. A stream that never began is sealed without a token.
	HandedTo int
	// State is set if the position is not a stream's. Token, ClusterTime and Fingerprint are
	// empty then.
	State *State
}

// Window tells which windows of a stream have been published. The token lies before the first
// change of the others, so changes of published windows may be read again.
type Window struct {
	// Start and End bound, in seconds of cluster time, the window that was published last; both
	// are 0 before the first.
	Start uint32 `json:"start" bson:"start"`
	End   uint32 `json:"end" bson:"end"`
	// Unfinished says that the window has more events than those that are published. The token
	// lies before the first change of its part Part; After is the last event that is published
	// of that part, "" for none.
	Unfinished bool   `json:"unfinished,omitempty" bson:"unfinished,omitempty"`
	Part       uint32 `json:"part,omitempty" bson:"part,omitempty"`
	After      string `json:"after,omitempty" bson:"after,omitempty"`
}

// State is something else that a store keeps beside the streams' positions: the layout of
// the streams, or the progress of a backfill.
type State struct {
	// Document is the state itself. It has no member _data: that marks a token.
	Document bson.Raw
	// Generation counts the changes of a state that must not go back; it is 0 for others.
	Generation int
	// ID names the document's content, for people.
	ID string
}

// IsZero tells whether p is empty: neither a position, nor a state, nor the seal of a stream
// that never began.
func (p Position) IsZero() bool { return len(p.Token) == 0 && p.State == nil && p.HandedTo == 0 }

// A state is stored in the form of a position, the only form that earlier programs know: its
// document in place of the token, its generation in place of the cluster time, its ID in
// place of the fingerprint. So every store fences and orders states as it does positions.

// neverBegan is in the token's place for a stream that was sealed before it began: {none: true}.
const neverBegan = "\x0c\x00\x00\x00\x08none\x00\x01\x00"

// content is stored in the token's place.
func (p Position) content() bson.Raw {
	switch {
	case p.State != nil:
		return p.State.Document
	case len(p.Token) == 0:
		return bson.Raw(neverBegan)
	}
	return p.Token
}

// order is stored in the cluster time's place. No store lets it go back.
func (p Position) order() bson.Timestamp {
	if p.State != nil {
		return bson.Timestamp{T: uint32(p.State.Generation)}
	}
	return p.ClusterTime
}

// fingerprint is stored in the fingerprint's place.
func (p Position) fingerprint() string {
	if p.State != nil {
		return p.State.ID
	}
	return p.Fingerprint
}

// fill sets the fields from the three stored values. HandedTo must be set before.
func (p *Position) fill(content bson.Raw, order bson.Timestamp, fingerprint string) {
	switch {
	case tokens.Is(content):
		p.Token = content
	case p.HandedTo == 0:
		p.State = &State{Document: content, Generation: int(order.T), ID: fingerprint}
		return
	}
	p.ClusterTime, p.Fingerprint = order, fingerprint
}

// ErrNone is returned by Store.Acquire for a stream that has never had a position.
var ErrNone = errors.New("no position stored")

// ErrDeleted is the ErrNone of a stream whose position an operator has deleted, so
// that it starts anew. Not every store can tell.
var ErrDeleted = fmt.Errorf("%w: it has been deleted", ErrNone)

// ErrFenced says that another process has become the stream's owner. Nothing of
// this process can be committed any more.
var ErrFenced = errors.New("another process owns the stream")

// ErrBackwards is returned by Store.Save for a position whose cluster time, or a state whose
// generation, lies before the stored one.
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
	// stored one. After any other error the position may or may not have been
	// stored: the next Acquire returns the stored one.
	Save(ctx context.Context, p Position) error
	// Close releases what the store holds. The position stays.
	Close(ctx context.Context) error
}

// Coverage is what one stream publishes: all changes of some collections of one
// cluster, or a slice of them by the hash of the document key.
type Coverage struct {
	// Stream is the stream's name.
	Stream string `json:"stream" bson:"stream,omitempty"`
	// Cluster is the name of the cluster's default stream. It tells clusters apart
	// and, unlike an address, stays when a cluster moves.
	Cluster string `json:"cluster" bson:"cluster,omitempty"`
	// Collections are the namespaces, such as fhir.Consent_4_0_0, sorted.
	Collections []string `json:"collections" bson:"collections,omitempty"`
	// Slice is the number of the slice, from 0, and Of the number of slices; Of 0 or 1
	// means that the collections are not divided.
	Slice int `json:"slice,omitempty" bson:"slice,omitempty"`
	Of    int `json:"of,omitempty" bson:"of,omitempty"`
}

// Has tells whether a collection is in the coverage, whatever its slice.
func (c Coverage) Has(collection string) bool { return slices.Contains(c.Collections, collection) }

// Published says that all changes of a coverage from one token (exclusive) to another
// (inclusive) need not be published again: some stream has published them, or a repair
// will. A coverage without collections stands for the position's own stream, which
// published these changes while earlier ones waited for their facts.
type Published struct {
	Coverage `bson:"inline"`
	// From is the token before the first change; empty if the range has no beginning.
	From        bson.Raw       `bson:"from,omitempty"`
	Token       bson.Raw       `bson:"token"`
	ClusterTime bson.Timestamp `bson:"clusterTime,omitempty"`
	// Again, in the stored form only, stands for the coverage of the entry before: a
	// hand-over gives many entries with a From the same coverage.
	Again bool `bson:"again,omitempty"`
}

// Abbreviate gives the stored form of published: a coverage that repeats the one of the
// entry before becomes Again, in entries with a From.
func Abbreviate(published []Published) []Published {
	all := slices.Clone(published)
	for i := 1; i < len(all); i++ {
		if len(all[i].From) > 0 && len(all[i].Collections) > 0 && all[i].equal(published[i-1].Coverage) {
			all[i].Coverage, all[i].Again = Coverage{}, true
		}
	}
	return all
}

// Expand restores, in place, the coverages that Abbreviate has left out.
func Expand(all []Published) []Published {
	for i := range all {
		if i > 0 && all[i].Again {
			all[i].Coverage, all[i].Again = all[i-1].Coverage, false
		}
	}
	return all
}

// Ahead gives the entries of published that end after a token. A stream at the token has
// not passed them yet.
func Ahead(published []Published, token bson.Raw) []Published {
	if len(published) == 0 {
		return nil
	}
	var ahead []Published
	for _, p := range published {
		if tokens.After(p.Token, token) {
			ahead = append(ahead, p)
		}
	}
	return ahead
}

func (c Coverage) equal(other Coverage) bool {
	return c.Stream == other.Stream && c.Cluster == other.Cluster && c.Slice == other.Slice && c.Of == other.Of &&
		slices.Equal(c.Collections, other.Collections)
}

// Owner says who acquired a stream last.
type Owner struct {
	// Instance names the process, as its configuration does.
	Instance string
	// Since is when the process acquired the stream.
	Since time.Time
	// Stopped is when the process released the stream at an orderly end. It is zero while
	// the process runs, and after a crash.
	Stopped time.Time
	// Seen is when the process stored something last.
	Seen time.Time
}

// Stored is the content of a store for one stream.
type Stored struct {
	// Position is the newest position, zero if none is stored.
	Position Position
	// Saved is when the position was stored.
	Saved time.Time
	// Owner is zero if nobody ever acquired the stream.
	Owner Owner
	// Held says that a process certainly owns the stream now. Only the file store knows
	// that, by its lock.
	Held bool
	// Now is the clock to compare the times with: the store's own if it has one.
	Now time.Time
}

// Keeper is a Store as an operator's commands use it.
type Keeper interface {
	Store
	// Inspect reads the stored position and owner without acquiring the stream: its owner
	// notices nothing.
	Inspect(ctx context.Context) (Stored, error)
	// History reads the older positions that are kept, oldest first: the first of each
	// of the last 48 hours in which the stream moved.
	History(ctx context.Context) ([]Position, error)
	// Reset stores a position that an operator has chosen, which may lie before the
	// stored one. The stream must have been acquired.
	Reset(ctx context.Context, p Position) error
}

// Glance reads the stored position, zero if there is none, without acquiring the stream
// and without waiting for open transactions.
func Glance(ctx context.Context, store Keeper) (Position, error) {
	if quick, ok := store.(interface {
		Glance(ctx context.Context) (Position, error)
	}); ok {
		return quick.Glance(ctx)
	}
	stored, err := store.Inspect(ctx)
	return stored.Position, err
}

// inOrder sorts positions by their time. Of each hour it keeps the last in the list.
func inOrder(positions []Position) []Position {
	byHour := make(map[time.Time]Position, len(positions))
	for _, p := range positions {
		byHour[hourOf(p.order())] = p
	}
	kept := make([]Position, 0, len(byHour))
	for _, p := range byHour {
		kept = append(kept, p)
	}
	slices.SortFunc(kept, func(a, b Position) int { return a.order().Compare(b.order()) })
	return kept[max(0, len(kept)-historyHours):]
}

// newHour tells whether next lies in a later hour than last.
func newHour(last, next bson.Timestamp) bool { return hourOf(next).After(hourOf(last)) }

// Memory keeps a position for the life of the process, for a stream that is only
// tried out. An interrupted stream goes on from it.
type Memory struct {
	mu       sync.Mutex
	position Position
}

// Acquire implements Store.
func (m *Memory) Acquire(context.Context) (Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.position.IsZero() {
		return Position{}, ErrNone
	}
	return m.position, nil
}

// Save implements Store.
func (m *Memory) Save(_ context.Context, p Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.position = p
	return nil
}

// Close implements Store; the position stays.
func (m *Memory) Close(context.Context) error { return nil }
