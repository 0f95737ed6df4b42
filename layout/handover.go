package layout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Handover moves collections from stream to stream when the streams of an installation
// change, so that nothing is lost or published twice.
//
// The stored layout names the streams in force. A process with another layout changes it:
// it acquires every stream of the stored layout, which shuts its owner out, seals
// its position, and stores the new layout with these last positions. A stream of the
// new layout begins at the position of the slowest stream that covered its collections;
// Position.Published has the changes that the faster ones had published. Whoever acquires
// a sealed stream under the old layout sees the seal, so no process goes on unnoticed. A
// process that has seen its own layout in force does not bring it back (ErrChanged), or two
// processes would change the layout for ever.
//
// A stop at any point is harmless: the old layout holds until the new one is stored, and a
// process of the old layout can take a sealed position up again once it has made sure, by
// acquiring the layout, that nobody is still changing it.
//
// One Handover serves all streams of a process.
type Handover struct {
	own, initial Layout
	open         func(stream string) (resumetoken.Keeper, error)
	log          *zap.Logger
	// mu lets one stream of this process change the layout, not all at once.
	mu sync.Mutex
	// held says that this process has seen its own layout stored.
	held atomic.Bool
}

// NewHandover returns a Handover for the layout own. initial is the layout in force while
// none is stored: the layout of an installation without configured streams.
// open opens the store of any stream, in own or not.
func NewHandover(own, initial Layout, open func(stream string) (resumetoken.Keeper, error), log *zap.Logger) *Handover {
	return &Handover{own: own, initial: initial, open: open, log: log}
}

// ID is the own layout's ID.
func (h *Handover) ID() string { return h.own.ID() }

// ErrChanged says that this process had its layout in force, and that another process has
// changed it since. Only a newly started process changes the layout: one that ran or stood
// by before would undo the change.
var ErrChanged = errors.New("another process has changed the streams")

// Look finds out whether the own layout is the stored one, for a process that carries
// none of its streams yet. It acquires nothing.
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

// maxChanges bounds how often the layout may change during one Acquire.
const maxChanges = 3

// Acquire acquires a stream of the own layout, through its store's acquire, and returns the
// position from which the stream goes on, or ErrNone. The caller sets the returned string
// as the Layout of every position that it stores from now on.
func (h *Handover) Acquire(ctx context.Context, stream string, acquire func(context.Context) (resumetoken.Position, error)) (resumetoken.Position, string, error) {
	if err := h.prepare(ctx); err != nil {
		return resumetoken.Position{}, "", err
	}
	for try := range maxChanges {
		own, err := acquire(ctx)
		if err != nil && !errors.Is(err, resumetoken.ErrNone) {
			return resumetoken.Position{}, "", err
		}
		if own.State != nil {
			return resumetoken.Position{}, "", fmt.Errorf("the position of stream %q has no resume token", stream)
		}
		deleted := errors.Is(err, resumetoken.ErrDeleted)
		if h.current(own) {
			h.held.Store(true)
			return own, own.Layout, nil
		}
		p, layout, changed, err := h.settle(ctx, stream, own, deleted)
		if err != nil {
			return resumetoken.Position{}, "", fmt.Errorf("take over what the streams before had published: %w", err)
		}
		// A position of another layout is usually sealed by now, and read again. If it is
		// the same after maxChanges attempts, an operator has set it, and it counts.
		overtaken := own.HandedTo == 0 && !own.IsZero() && own.Layout != layout && try < maxChanges-1
		if changed || overtaken {
			continue // The stream itself has been acquired meanwhile, to be sealed.
		}
		if p.IsZero() && deleted {
			return resumetoken.Position{}, layout, resumetoken.ErrDeleted
		}
		if p.IsZero() {
			return resumetoken.Position{}, layout, resumetoken.ErrNone
		}
		return p, layout, nil
	}
	return resumetoken.Position{}, "", errors.New("the layout of the streams keeps changing: do processes of this name run with different streams?")
}

// prepare changes the layout before the stream is acquired, if a change is likely. The
// stream need not wait then for transactions in its partition that a killed process with
// other streams left open. And if this process may not change the layout (ErrChanged), a
// stream of the same name under the other layout keeps its owner.
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

// glance reads the stored layout with resumetoken.Glance.
func (h *Handover) glance(ctx context.Context) (storedLayout, error) {
	store, err := h.open(name)
	if err != nil {
		return storedLayout{}, err
	}
	p, err := resumetoken.Glance(ctx, store)
	if err = errors.Join(err, store.Close(ctx)); err != nil {
		return storedLayout{}, fmt.Errorf("read the layout of the streams: %w", err)
	}
	return h.decode(p)
}

// current tells whether a position is the own layout's. It need not look at the stored
// layout: under a later one the position would be sealed.
func (h *Handover) current(p resumetoken.Position) bool {
	if p.IsZero() || p.HandedTo > 0 {
		return false
	}
	return p.Layout == h.own.ID() || p.Layout == "" && h.own.ID() == h.initial.ID()
}

// settle finds the position from which a stream goes on, if its own position alone does not
// tell. changed says that the stream has to be acquired again.
func (h *Handover) settle(ctx context.Context, stream string, own resumetoken.Position, deleted bool) (p resumetoken.Position, layout string, changed bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	record, err := h.stored(ctx)
	if err != nil {
		return resumetoken.Position{}, "", false, err
	}
	if record.ID != h.own.ID() {
		return resumetoken.Position{}, "", true, h.change(ctx, record)
	}
	h.held.Store(true)
	if own.HandedTo > record.Generation {
		// Another process has begun to change the layout and has not ended. Taking the
		// layout keeps it from ending.
		taken, release, err := h.take(ctx)
		if err != nil {
			return resumetoken.Position{}, "", false, err
		}
		release()
		if taken.Generation != record.Generation {
			return resumetoken.Position{}, "", true, nil
		}
	}
	coverage, known := h.own.stream(stream)
	if !known {
		return resumetoken.Position{}, "", false, fmt.Errorf("stream %q is not in the layout", stream)
	}
	layout = record.ID
	if record.Generation == 0 {
		layout = ""
	}
	if deleted {
		return resumetoken.Position{}, layout, false, nil
	}
	return record.effective(coverage, own, record.Generation+1), layout, false, nil
}

// Streams are the names of the streams of the stored layout, and whether that is the own
// layout. While none is stored, the own layout counts as stored. It acquires nothing.
func (h *Handover) Streams(ctx context.Context) (names []string, own bool, err error) {
	record, err := h.stored(ctx)
	if err != nil {
		return nil, false, err
	}
	if record.Generation == 0 {
		record = storedLayout{ID: h.own.ID(), Layout: h.own}
	}
	return record.Layout.names(), record.ID == h.own.ID(), nil
}

// stored reads the stored layout without acquiring it.
func (h *Handover) stored(ctx context.Context) (storedLayout, error) {
	store, err := h.open(name)
	if err != nil {
		return storedLayout{}, err
	}
	stored, err := store.Inspect(ctx)
	if err = errors.Join(err, store.Close(ctx)); err != nil {
		return storedLayout{}, fmt.Errorf("read the layout of the streams: %w", err)
	}
	return h.decode(stored.Position)
}

func (h *Handover) decode(p resumetoken.Position) (storedLayout, error) {
	record, err := read(p)
	if err != nil {
		return storedLayout{}, fmt.Errorf("read the layout of the streams: %w", err)
	}
	if record.Generation == 0 {
		record = storedLayout{ID: h.initial.ID(), Layout: h.initial}
	}
	return record, nil
}

func notNone(err error) error {
	if errors.Is(err, resumetoken.ErrNone) {
		return nil
	}
	return err
}

// effective is the position of a stream under the record's layout: its own position, if it
// is unsealed or was sealed for the following generation, else the start in the layout.
func (r storedLayout) effective(c resumetoken.Coverage, own resumetoken.Position, following int) resumetoken.Position {
	if own.IsZero() || own.HandedTo > 0 && own.HandedTo < following {
		return r.start(c)
	}
	own.HandedTo = 0
	if own.IsZero() {
		return resumetoken.Position{} // It was sealed before it began.
	}
	return own
}

// take makes this process the only one that can change the layout.
func (h *Handover) take(ctx context.Context) (storedLayout, func(), error) {
	store, err := h.open(name)
	if err != nil {
		return storedLayout{}, nil, err
	}
	record, err := h.takeStore(ctx, store)
	release := func() { _ = store.Close(context.WithoutCancel(ctx)) } // It has nothing to save.
	if err != nil {
		release()
		return storedLayout{}, nil, err
	}
	return record, release, nil
}

func (h *Handover) takeStore(ctx context.Context, store resumetoken.Keeper) (storedLayout, error) {
	p, err := store.Acquire(ctx)
	if notNone(err) != nil {
		return storedLayout{}, fmt.Errorf("take the layout of the streams: %w", err)
	}
	return h.decode(p)
}

// change stores the own layout, unless it is stored already. expected is the stored layout
// as it was read without acquiring it.
func (h *Handover) change(ctx context.Context, expected storedLayout) error {
	switch {
	case expected.ID == h.own.ID():
		h.held.Store(true)
		return nil
	case h.held.Load() && expected.Generation > 0: // 0: the stored layout was deleted, not changed
		return fmt.Errorf("%w: they are %s now, or divide the collections in another way, and this process stands by for the ones that it began with",
			ErrChanged, strings.Join(expected.Layout.names(), ", "))
	}
	began := time.Now()
	h.log.Info("the streams change; waiting for what the old ones have left open", zap.Int("streamsBefore", len(expected.Layout)), zap.Int("streams", len(h.own)))
	store, err := h.open(name)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close(context.WithoutCancel(ctx)) }() // What was stored is stored.
	// All at once: each waits for the end of the transactions that the others left open.
	// A failure does not cancel the others: the brokers may still carry out a cancelled
	// acquisition, and it would shut the next attempt out.
	var g errgroup.Group
	var record storedLayout
	g.Go(func() (err error) {
		record, err = h.takeStore(ctx, store)
		return err
	})
	ending := make([]*endingStream, len(expected.Layout))
	for i, coverage := range expected.Layout {
		ending[i] = &endingStream{coverage: coverage}
		g.Go(func() error { return ending[i].acquire(ctx, h.open) })
	}
	defer func() {
		for _, e := range ending {
			e.close(context.WithoutCancel(ctx))
		}
	}()
	if err := g.Wait(); err != nil || record.ID == h.own.ID() {
		return err
	}
	if record.Generation != expected.Generation {
		return errors.New("another process has changed the streams at the same time")
	}
	next := storedLayout{ID: h.own.ID(), Generation: record.Generation + 1, Layout: h.own}
	for _, e := range ending {
		p, err := e.seal(ctx, record, next.Generation)
		if err != nil {
			return fmt.Errorf("end stream %q: %w", e.coverage.Stream, unfenced(err))
		}
		if !p.IsZero() {
			last := lastPosition{
				Coverage: e.coverage, Token: p.Token, ClusterTime: p.ClusterTime, WallTime: p.WallTime, Fingerprint: p.Fingerprint, History: p.History,
				Published: owned(p.Published, e.coverage), Window: p.Window, Paused: p.Paused, Counts: p.Counts,
			}
			if p.Repair != nil {
				last.Live = &livePoint{Token: p.Repair.Token, ClusterTime: p.Repair.ClusterTime}
			}
			next.Before = append(next.Before, last)
		}
	}
	p, err := next.position()
	if err == nil {
		err = store.Save(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("store the layout of the streams: %w", unfenced(err))
	}
	h.held.Store(true)
	h.log.Info("the streams have changed; what the old ones covered is handed over",
		zap.Int("generation", next.Generation), zap.Int("streamsBefore", len(record.Layout)), zap.Int("streams", len(next.Layout)),
		zap.Duration("took", time.Since(began)))
	return nil
}

// unfenced turns ErrFenced into an error that does not end this process: another process
// changes the layout at the same time, and the next attempt sees the new layout.
func unfenced(err error) error {
	if errors.Is(err, resumetoken.ErrFenced) {
		return fmt.Errorf("another process changes the streams at the same time (%v)", err) //nolint:errorlint // it must not end this process
	}
	return err
}

// endingStream is a stream of the stored layout that is to be handed over.
type endingStream struct {
	coverage resumetoken.Coverage
	store    resumetoken.Keeper // nil until it is opened
	own      resumetoken.Position
	deleted  bool
}

// acquire shuts out the stream's owner.
func (e *endingStream) acquire(ctx context.Context, open func(string) (resumetoken.Keeper, error)) (err error) {
	if e.store, err = open(e.coverage.Stream); err != nil {
		return err
	}
	e.own, err = e.store.Acquire(ctx)
	e.deleted = errors.Is(err, resumetoken.ErrDeleted)
	if err = notNone(err); err != nil {
		return fmt.Errorf("end stream %q: %w", e.coverage.Stream, unfenced(err))
	}
	return nil
}

func (e *endingStream) close(ctx context.Context) {
	if e.store != nil {
		_ = e.store.Close(ctx) // What was saved is saved.
	}
}

// seal marks the stream's position as handed over and returns the position before; zero if
// the stream never had one.
func (e *endingStream) seal(ctx context.Context, record storedLayout, generation int) (resumetoken.Position, error) {
	var p resumetoken.Position
	if !e.deleted {
		p = record.effective(e.coverage, e.own, generation)
	}
	sealed := p // A stream that has not begun is sealed without a token: it must not begin any more.
	sealed.Stream, sealed.Layout, sealed.HandedTo = e.coverage.Stream, record.ID, generation
	return p, e.store.Reset(ctx, sealed)
}

// owned sets the coverage in entries of published that have none. These mean the stream
// that stored them, and the entries are about to be given to other streams.
func owned(published []resumetoken.Published, c resumetoken.Coverage) []resumetoken.Published {
	all := slices.Clone(published)
	for i := range all {
		if len(all[i].Collections) == 0 {
			all[i].Coverage = c
		}
	}
	return all
}
