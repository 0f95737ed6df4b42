package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
)

// Handover sees to it that nothing is lost or published twice when the streams of an
// installation change: when what one stream covered becomes another's, or is shared
// anew between several.
//
// The stored layout says which streams there are. A process with another one changes
// it: it acquires every stream of the stored layout, which shuts its owner out, seals
// its position, and stores the new layout with these last positions. A stream of the
// new layout begins where the slowest of the streams began that covered its
// collections (Position.Published has what the faster ones had done). Whoever acquires
// a sealed stream under the old layout sees it, so no process goes on unnoticed.
//
// A stop at any point is harmless: until the new layout is stored the old one holds,
// and a sealed position can be taken up again by who makes sure that nobody is still
// at it.
//
// One Handover serves all streams of a process.
type Handover struct {
	own, initial Layout
	open         func(stream string) (Store, error)
	log          *zap.Logger
	// mu lets one stream of this process change the layout, not all at once.
	mu sync.Mutex
}

// NewHandover returns a Handover for the layout own. initial is the layout that holds
// while none is stored: that of an installation without streams of its own choice.
// open opens the store of a stream, whether it is in own or not.
func NewHandover(own, initial Layout, open func(stream string) (Store, error), log *zap.Logger) *Handover {
	return &Handover{own: own, initial: initial, open: open, log: log}
}

// ID is the own layout's.
func (h *Handover) ID() string { return h.own.ID() }

// maxChanges bounds how often the layout may change under the hands of an Acquire.
const maxChanges = 3

// Acquire acquires a stream of the own layout and returns where it goes on, or
// ErrNone. acquire is the stream's own store's. The string is to become the Layout of
// the positions that are stored from now on.
func (h *Handover) Acquire(ctx context.Context, stream string, acquire func(context.Context) (Position, error)) (Position, string, error) {
	for range maxChanges {
		own, err := acquire(ctx)
		if err != nil && !errors.Is(err, ErrNone) {
			return Position{}, "", err
		}
		deleted := errors.Is(err, ErrDeleted)
		if h.current(own) {
			return own, own.Layout, nil
		}
		p, layout, changed, err := h.settle(ctx, stream, own, deleted)
		if err != nil {
			return Position{}, "", fmt.Errorf("take over what the streams before had published: %w", err)
		}
		if changed {
			continue // The stream itself has been acquired meanwhile, to be sealed.
		}
		if p.IsZero() {
			return Position{}, layout, ErrNone
		}
		return p, layout, nil
	}
	return Position{}, "", errors.New("the layout of the streams keeps changing: do processes of this name run with different streams?")
}

// current tells whether a position is the own layout's without looking at the stored
// layout: with a later one it would be sealed.
func (h *Handover) current(p Position) bool {
	if p.IsZero() || p.HandedTo > 0 {
		return false
	}
	return p.Layout == h.own.ID() || p.Layout == "" && h.own.ID() == h.initial.ID()
}

// settle finds where a stream goes on whose position alone does not say. changed
// says that the stream has to be acquired again.
func (h *Handover) settle(ctx context.Context, stream string, own Position, deleted bool) (p Position, layout string, changed bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	record, err := h.stored(ctx)
	if err != nil {
		return Position{}, "", false, err
	}
	if record.ID != h.own.ID() {
		return Position{}, "", true, h.change(ctx)
	}
	if own.HandedTo > record.Generation {
		// Somebody has begun to change the layout and has not come to the end. It must
		// not come to it any more.
		taken, release, err := h.take(ctx)
		if err != nil {
			return Position{}, "", false, err
		}
		release()
		if taken.Generation != record.Generation {
			return Position{}, "", true, nil
		}
	}
	coverage, known := h.own.stream(stream)
	if !known {
		return Position{}, "", false, fmt.Errorf("stream %q is not in the layout", stream)
	}
	layout = record.ID
	if record.Generation == 0 {
		layout = ""
	}
	if deleted {
		return Position{}, layout, false, nil
	}
	return record.effective(coverage, own, record.Generation+1), layout, false, nil
}

// stored is the stored layout without taking it from anybody.
func (h *Handover) stored(ctx context.Context) (layoutRecord, error) {
	store, err := h.open(LayoutStream)
	if err != nil {
		return layoutRecord{}, err
	}
	var p Position
	if peeker, ok := store.(interface {
		Peek(ctx context.Context) (Position, error)
	}); ok {
		p, err = peeker.Peek(ctx)
	} else {
		p, err = store.Acquire(ctx)
	}
	err = errors.Join(notNone(err), store.Close(ctx))
	if err != nil {
		return layoutRecord{}, fmt.Errorf("read the layout of the streams: %w", err)
	}
	return h.decode(p)
}

func (h *Handover) decode(p Position) (layoutRecord, error) {
	record, err := decodeLayout(p)
	if err != nil {
		return layoutRecord{}, fmt.Errorf("read the layout of the streams: %w", err)
	}
	if record.Generation == 0 {
		record = layoutRecord{ID: h.initial.ID(), Layout: h.initial}
	}
	return record, nil
}

func notNone(err error) error {
	if errors.Is(err, ErrNone) {
		return nil
	}
	return err
}

// take makes this process the only one that can change the layout.
func (h *Handover) take(ctx context.Context) (layoutRecord, func(), error) {
	store, err := h.open(LayoutStream)
	if err != nil {
		return layoutRecord{}, nil, err
	}
	record, err := h.takeStore(ctx, store)
	release := func() { _ = store.Close(context.WithoutCancel(ctx)) } // It has nothing to save.
	if err != nil {
		release()
		return layoutRecord{}, nil, err
	}
	return record, release, nil
}

func (h *Handover) takeStore(ctx context.Context, store Store) (layoutRecord, error) {
	p, err := store.Acquire(ctx)
	if notNone(err) != nil {
		return layoutRecord{}, fmt.Errorf("take the layout of the streams: %w", err)
	}
	return h.decode(p)
}

// change makes the own layout the stored one.
func (h *Handover) change(ctx context.Context) error {
	began := time.Now()
	store, err := h.open(LayoutStream)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close(context.WithoutCancel(ctx)) }() // What was stored is stored.
	record, err := h.takeStore(ctx, store)
	if err != nil || record.ID == h.own.ID() {
		return err
	}
	next := layoutRecord{ID: h.own.ID(), Generation: record.Generation + 1, Layout: h.own}
	for _, coverage := range record.Layout {
		p, err := h.seal(ctx, record, coverage, next.Generation)
		if err != nil {
			return fmt.Errorf("end stream %q: %w", coverage.Stream, unfenced(err))
		}
		if !p.IsZero() {
			next.Before = append(next.Before, lastPosition{
				Coverage: coverage, Token: p.Token, ClusterTime: p.ClusterTime, Fingerprint: p.Fingerprint, Published: p.Published,
			})
		}
	}
	p, err := next.position()
	if err == nil {
		err = store.Save(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("store the layout of the streams: %w", unfenced(err))
	}
	h.log.Info("the streams have changed; what the old ones covered is handed over",
		zap.Int("generation", next.Generation), zap.Int("streams_before", len(record.Layout)), zap.Int("streams", len(next.Layout)),
		zap.Duration("took", time.Since(began)))
	return nil
}

// unfenced takes from an error that this process has lost the stream: another one
// changes the layout at the same time, and the next attempt sees what it did.
func unfenced(err error) error {
	if errors.Is(err, ErrFenced) {
		return fmt.Errorf("another process changes the streams at the same time (%v)", err) //nolint:errorlint // it must not end this process
	}
	return err
}

// seal acquires a stream of the stored layout, which shuts out its owner, marks its
// position as handed over, and returns it; zero if it never had any.
func (h *Handover) seal(ctx context.Context, record layoutRecord, coverage Coverage, generation int) (Position, error) {
	store, err := h.open(coverage.Stream)
	if err != nil {
		return Position{}, err
	}
	defer func() { _ = store.Close(context.WithoutCancel(ctx)) }() // What was saved is saved.
	own, err := store.Acquire(ctx)
	if notNone(err) != nil {
		return Position{}, err
	}
	p := Position{}
	if !errors.Is(err, ErrDeleted) {
		p = record.effective(coverage, own, generation)
	}
	sealed := p
	if p.IsZero() {
		// A stream that has not begun must not begin any more.
		if sealed.Token, err = bson.Marshal(bson.D{{Key: noToken, Value: true}}); err != nil {
			return Position{}, err
		}
	}
	sealed.Stream, sealed.Layout, sealed.HandedTo = coverage.Stream, record.ID, generation
	if err := store.Save(ctx, sealed); err != nil {
		return Position{}, err
	}
	return p, nil
}

// noToken is in the token of a sealed stream that never had a position.
const noToken = "none"

// effective is where a stream stands under the record's layout: at its own position,
// if that is of this layout (or was sealed for the generation that is to follow), else
// where the layout has it begin.
func (r layoutRecord) effective(c Coverage, own Position, following int) Position {
	if own.IsZero() || own.HandedTo > 0 && own.HandedTo < following {
		return r.start(c)
	}
	own.HandedTo = 0
	if _, err := own.Token.LookupErr(noToken); err == nil {
		return Position{}
	}
	return own
}
