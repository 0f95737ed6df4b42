package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

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
// a sealed stream under the old layout sees it, so no process goes on unnoticed; and one
// that has seen its own layout in force does not bring it back (ErrChanged), or two
// processes would change it for ever.
//
// A stop at any point is harmless: until the new layout is stored the old one holds,
// and a sealed position can be taken up again by who makes sure that nobody is still
// at it.
//
// One Handover serves all streams of a process.
type Handover struct {
	own, initial Layout
	open         func(stream string) (Keeper, error)
	log          *zap.Logger
	// mu lets one stream of this process change the layout, not all at once.
	mu sync.Mutex
	// held says that the own layout has been the stored one since this process began.
	held atomic.Bool
}

// NewHandover returns a Handover for the layout own. initial is the layout that holds
// while none is stored: that of an installation without streams of its own choice.
// open opens the store of a stream, whether it is in own or not.
func NewHandover(own, initial Layout, open func(stream string) (Keeper, error), log *zap.Logger) *Handover {
	return &Handover{own: own, initial: initial, open: open, log: log}
}

// ID is the own layout's.
func (h *Handover) ID() string { return h.own.ID() }

// ErrChanged says that another process has changed the streams since they were those of
// this one. Only a process that has just been started changes them; one that ran, or stood
// by, before they were changed would undo it.
var ErrChanged = errors.New("another process has changed the streams")

// Look finds out whether the own layout is the stored one, for a process that carries
// none of its streams yet. It takes nothing from anybody.
func (h *Handover) Look(ctx context.Context) error {
	if h.held.Load() {
		return nil
	}
	record, err := h.glance(ctx)
	if err == nil && record.ID == h.own.ID() {
		h.held.Store(true)
	}
	return err
}

// maxChanges bounds how often the layout may change under the hands of an Acquire.
const maxChanges = 3

// Acquire acquires a stream of the own layout and returns where it goes on, or
// ErrNone. acquire is the stream's own store's. The string is to become the Layout of
// the positions that are stored from now on.
func (h *Handover) Acquire(ctx context.Context, stream string, acquire func(context.Context) (Position, error)) (Position, string, error) {
	if err := h.prepare(ctx); err != nil {
		return Position{}, "", err
	}
	for try := range maxChanges {
		own, err := acquire(ctx)
		if err != nil && !errors.Is(err, ErrNone) {
			return Position{}, "", err
		}
		deleted := errors.Is(err, ErrDeleted)
		if h.current(own) {
			h.held.Store(true)
			return own, own.Layout, nil
		}
		p, layout, changed, err := h.settle(ctx, stream, own, deleted)
		if err != nil {
			return Position{}, "", fmt.Errorf("take over what the streams before had published: %w", err)
		}
		// A position of another layout has been sealed since it was read; only one that
		// an operator has set stays as it is.
		overtaken := own.HandedTo == 0 && !own.IsZero() && own.Layout != layout && try < maxChanges-1
		if changed || overtaken {
			continue // The stream itself has been acquired meanwhile, to be sealed.
		}
		if p.IsZero() && deleted {
			return Position{}, layout, ErrDeleted
		}
		if p.IsZero() {
			return Position{}, layout, ErrNone
		}
		return p, layout, nil
	}
	return Position{}, "", errors.New("the layout of the streams keeps changing: do processes of this name run with different streams?")
}

// prepare changes the layout before the stream is acquired, where that is to be
// expected. It spares the stream the wait for transactions in its partition that a
// process with other streams left open when it was killed. And it leaves a stream of
// this name under another layout alone, if the layout is not this process's to change.
func (h *Handover) prepare(ctx context.Context) error {
	if h.own.ID() == h.initial.ID() && !h.held.Load() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	record, err := h.glance(ctx)
	if err != nil {
		return err
	}
	if err := h.change(ctx, record); err != nil {
		return fmt.Errorf("take over what the streams before had published: %w", err)
	}
	return nil
}

// glance is the stored layout as Glance reads it.
func (h *Handover) glance(ctx context.Context) (layoutRecord, error) {
	store, err := h.open(LayoutStream)
	if err != nil {
		return layoutRecord{}, err
	}
	p, err := Glance(ctx, store)
	if err = errors.Join(err, store.Close(ctx)); err != nil {
		return layoutRecord{}, fmt.Errorf("read the layout of the streams: %w", err)
	}
	return h.decode(p)
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
		return Position{}, "", true, h.change(ctx, record)
	}
	h.held.Store(true)
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

// Streams are the names of the streams of the stored layout, and whether it is the own
// one; so is the own layout while none is stored. Nothing is taken from anybody.
func (h *Handover) Streams(ctx context.Context) (names []string, own bool, err error) {
	record, err := h.stored(ctx)
	if err != nil {
		return nil, false, err
	}
	if record.Generation == 0 {
		record = layoutRecord{ID: h.own.ID(), Layout: h.own}
	}
	return record.Layout.names(), record.ID == h.own.ID(), nil
}

// stored is the stored layout without taking it from anybody.
func (h *Handover) stored(ctx context.Context) (layoutRecord, error) {
	store, err := h.open(LayoutStream)
	if err != nil {
		return layoutRecord{}, err
	}
	stored, err := store.Inspect(ctx)
	if err = errors.Join(err, store.Close(ctx)); err != nil {
		return layoutRecord{}, fmt.Errorf("read the layout of the streams: %w", err)
	}
	return h.decode(stored.Position)
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
