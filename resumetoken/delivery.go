package resumetoken

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Deliver hands records to a client and waits until the brokers have
// acknowledged each, or until the first failure: nothing after it is worth
// sending, since a position must never move past a record that is missing.
//
// After an error records may still be buffered or on their way. They must not be
// used again, and the client should be told to abort them.
func Deliver(ctx context.Context, client *kgo.Client, records []kgo.Record) error {
	return deliver(ctx, client, func(d *delivery) { d.produce(records) })
}

// deliver waits for all that produce has handed over.
func deliver(ctx context.Context, client *kgo.Client, produce func(*delivery)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &delivery{ctx: ctx, client: client, giveUp: cancel}
	d.promise = d.done
	produce(d)
	if err := client.Flush(ctx); err != nil {
		if first := d.failure(); first != nil {
			return first
		}
		return fmt.Errorf("wait for acknowledgements: %w", err)
	}
	// The flush does not cover records that were refused before being buffered.
	d.pending.Wait()
	return d.failure()
}

// delivery follows records to their acknowledgements.
type delivery struct {
	ctx     context.Context //nolint:containedctx // a delivery lives within one call of deliver
	client  *kgo.Client
	giveUp  context.CancelFunc
	promise func(*kgo.Record, error) // done, made once and not for each record
	pending sync.WaitGroup

	mu  sync.Mutex
	err error // the first failure
}

func (d *delivery) produce(records []kgo.Record) {
	for i := range records {
		if err := d.ctx.Err(); err != nil {
			d.fail(fmt.Errorf("hand over records: %w", err))
			return
		}
		d.pending.Add(1)
		d.client.Produce(d.ctx, &records[i], d.promise)
	}
}

func (d *delivery) done(r *kgo.Record, err error) {
	if err != nil {
		d.fail(fmt.Errorf("record of %d bytes for topic %s: %w", len(r.Key)+len(r.Value), r.Topic, err))
	}
	d.pending.Done()
}

func (d *delivery) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		d.giveUp()
	}
}

func (d *delivery) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}
