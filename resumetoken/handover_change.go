package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

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

func (h *Handover) takeStore(ctx context.Context, store Keeper) (layoutRecord, error) {
	p, err := store.Acquire(ctx)
	if notNone(err) != nil {
		return layoutRecord{}, fmt.Errorf("take the layout of the streams: %w", err)
	}
	return h.decode(p)
}

// change makes the own layout the stored one, which it may be already. expected is the
// stored layout as far as it could be read without taking it.
func (h *Handover) change(ctx context.Context, expected layoutRecord) error {
	switch {
	case expected.ID == h.own.ID():
		h.held.Store(true)
		return nil
	case h.held.Load() && expected.Generation > 0: // else it is gone, not changed
		return fmt.Errorf("%w: they are %s now, or divide the collections in another way, and this process stands by for the ones that it began with",
			ErrChanged, strings.Join(expected.Layout.names(), ", "))
	}
	began := time.Now()
	store, err := h.open(LayoutStream)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close(context.WithoutCancel(ctx)) }() // What was stored is stored.
	// All at once: each waits until the transactions that the others left open are ended.
	// A failure does not cut the others off: what is cut off may still be carried out,
	// and would shut the next attempt out.
	var g errgroup.Group
	var record layoutRecord
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
	next := layoutRecord{ID: h.own.ID(), Generation: record.Generation + 1, Layout: h.own}
	for _, e := range ending {
		p, err := e.seal(ctx, record, next.Generation)
		if err != nil {
			return fmt.Errorf("end stream %q: %w", e.coverage.Stream, unfenced(err))
		}
		if !p.IsZero() {
			last := lastPosition{
				Coverage: e.coverage, Token: p.Token, ClusterTime: p.ClusterTime, Fingerprint: p.Fingerprint, Published: p.Published, Paused: p.Paused,
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

// unfenced takes from an error that this process has lost the stream: another one
// changes the layout at the same time, and the next attempt sees what it did.
func unfenced(err error) error {
	if errors.Is(err, ErrFenced) {
		return fmt.Errorf("another process changes the streams at the same time (%v)", err) //nolint:errorlint // it must not end this process
	}
	return err
}

// endingStream is a stream of the stored layout that is to be handed over.
type endingStream struct {
	coverage Coverage
	store    Keeper // nil until it is opened
	own      Position
	deleted  bool
}

// acquire shuts out the stream's owner.
func (e *endingStream) acquire(ctx context.Context, open func(string) (Keeper, error)) (err error) {
	if e.store, err = open(e.coverage.Stream); err != nil {
		return err
	}
	e.own, err = e.store.Acquire(ctx)
	e.deleted = errors.Is(err, ErrDeleted)
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

// seal marks the stream's position as handed over and returns it; zero if it never had
// any.
func (e *endingStream) seal(ctx context.Context, record layoutRecord, generation int) (Position, error) {
	var p Position
	if !e.deleted {
		p = record.effective(e.coverage, e.own, generation)
	}
	sealed := p
	if p.IsZero() {
		// A stream that has not begun must not begin any more.
		token, err := bson.Marshal(bson.D{{Key: noToken, Value: true}})
		if err != nil {
			return Position{}, err
		}
		sealed.Token = token
	}
	sealed.Stream, sealed.Layout, sealed.HandedTo = e.coverage.Stream, record.ID, generation
	return p, e.store.Reset(ctx, sealed)
}

// noToken is in the token of a sealed stream that never had a position.
const noToken = "none"
