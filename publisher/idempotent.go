package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// abortTimeout bounds how long a failed batch waits for records that are on
// their way. Those that do not come back in time end with the client.
const abortTimeout = 10 * time.Second

// Idempotent publishes each batch, waits until the brokers have acknowledged all
// of it, and saves the position, but not more often than at an interval. After a
// crash what came after the saved position is published again, with the same
// ids; nothing is ever left out.
type Idempotent struct {
	positions resumetoken.Store
	client    []kgo.Opt
	opts      Options
	interval  time.Duration
	now       func() time.Time

	producer *kgo.Client // nil before Acquire and after Close
	live     bool
	buffer   recordBuffer
	// pending is the position after the last acknowledged batch, saved that of
	// the last Save.
	pending  resumetoken.Position
	isSaved  bool
	lastSave time.Time
	// paused is what the stored position says; a change of it is stored at once.
	paused bool
}

// NewIdempotent checks the options; it connects to nothing. The store belongs to
// the publisher from here on and is closed with it. interval is the least time
// between two Saves; with 0 every batch saves.
func NewIdempotent(positions resumetoken.Store, client []kgo.Opt, opts Options, interval time.Duration) (*Idempotent, error) {
	producer, err := opts.producer()
	if err != nil {
		return nil, err
	}
	// Without StopProducerOnDataLossDetected the client goes on after the brokers have lost records.
	all := slices.Concat(client, producer, []kgo.Opt{kgo.StopProducerOnDataLossDetected()})
	return &Idempotent{positions: positions, client: all, opts: opts, interval: interval, now: time.Now, isSaved: true}, nil
}

// Acquire makes this process the owner of the stream's position and returns it,
// or resumetoken.ErrNone. It is also the only way on after an error of Commit.
func (p *Idempotent) Acquire(ctx context.Context) (resumetoken.Position, error) {
	p.disconnect()
	position, err := p.positions.Acquire(ctx)
	if err != nil && !errors.Is(err, resumetoken.ErrNone) {
		return resumetoken.Position{}, acquiringFault(p.opts.Stream, err)
	}
	client, clientErr := newClient(p.client)
	if clientErr != nil {
		return resumetoken.Position{}, clientErr
	}
	p.producer, p.live = client, true
	p.pending, p.isSaved, p.lastSave, p.paused = resumetoken.Position{}, true, time.Time{}, position.Paused
	return position, err
}

// Commit publishes a batch; its position is saved with it or later. After an
// error nothing more is accepted until Acquire, so that no position moves past a
// record that is missing.
func (p *Idempotent) Commit(ctx context.Context, batch *Batch) error {
	if !p.live {
		return errBroken
	}
	if batch.Position.IsZero() {
		return errors.New("commit: the batch has no position")
	}
	records, err := p.buffer.fill(batch, &p.opts)
	if err != nil {
		return err
	}
	p.opts.observe("before_events")
	if err := resumetoken.Deliver(ctx, p.producer, records); err != nil {
		return fmt.Errorf("publish records (%d): %w", len(records), messageTooLarge(p.giveUp(ctx, err)))
	}
	p.opts.observe("after_events")
	p.buffer.release()
	p.pending, p.isSaved = batch.Position, false
	if p.now().Sub(p.lastSave) < p.interval && batch.Position.Paused == p.paused {
		return nil
	}
	return p.checkpoint(ctx)
}

// giveUp ends a batch that has failed, and saves what was acknowledged before it,
// which then need not be published again.
func (p *Idempotent) giveUp(ctx context.Context, cause error) error {
	p.live = false
	p.buffer = recordBuffer{} // some of its records may still be on their way
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if err := p.producer.AbortBufferedRecords(ctx); err != nil {
		return errors.Join(cause, fmt.Errorf("wait for records on their way: %w", err))
	}
	return errors.Join(cause, p.checkpoint(ctx))
}

// checkpoint saves the position after the last acknowledged batch, if that has
// not been done. An error means what an error of Commit means.
func (p *Idempotent) checkpoint(ctx context.Context) error {
	if p.isSaved {
		return nil
	}
	// Whatever comes of it, the position is not tried again: Acquire tells where
	// the stream stands.
	p.isSaved = true
	p.opts.observe("before_save")
	if err := p.positions.Save(ctx, p.pending); err != nil {
		p.live = false
		return fmt.Errorf("checkpoint: %w", err)
	}
	p.opts.observe("after_save")
	p.lastSave, p.paused = p.now(), p.pending.Paused
	return nil
}

// MaxEventBytes is the largest event, as Event.Size counts it, that the topic
// takes.
func (p *Idempotent) MaxEventBytes(topic string) int { return p.opts.MaxEventBytes(topic) }

// Close saves the position after the last acknowledged batch and closes the
// store and the connection.
func (p *Idempotent) Close(ctx context.Context) error {
	err := p.checkpoint(ctx)
	p.disconnect()
	if closed := p.positions.Close(ctx); closed != nil {
		err = errors.Join(err, fmt.Errorf("close position store: %w", closed))
	}
	return err
}

func (p *Idempotent) disconnect() {
	if p.producer != nil {
		p.producer.Close()
	}
	p.producer, p.live = nil, false
}
