package publisher

import (
	"context"
	"fmt"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Transactional publishes each batch in one Kafka transaction with the position
// after it: events, dead letters, position record, or nothing of them.
//
// A consumer that reads committed records sees every event once. One that does
// not sees the events of transactions that failed as well.
type Transactional struct {
	positions *resumetoken.Kafka
	opts      Options
	buffer    recordBuffer
}

// NewTransactional checks the options; it connects to nothing. The options of
// the producer are added to positions.Extra.
func NewTransactional(positions resumetoken.KafkaOptions, opts Options) (*Transactional, error) {
	producer, err := opts.producer()
	if err != nil {
		return nil, err
	}
	positions.Extra = append(producer, positions.Extra...)
	store, err := resumetoken.NewKafka(positions)
	if err != nil {
		return nil, err
	}
	return &Transactional{positions: store, opts: opts}, nil
}

// Acquire makes this process the stream's owner, which ends a predecessor's open
// transaction, and returns the position that was committed last, or
// resumetoken.ErrNone. It is also the only way on after an error of Commit.
func (t *Transactional) Acquire(ctx context.Context) (resumetoken.Position, error) {
	position, err := t.positions.Acquire(ctx)
	return position, acquiringFault(t.opts.Stream, err)
}

// Commit publishes a batch and the position after it. A batch without events
// moves the position.
//
// An error that is resumetoken.ErrFenced says that another process has the
// stream. After every other error, the caller acquires the stream and reads on
// from the position that it gets: whether the batch was committed is in there.
// Cancelling ctx aborts the transaction, unless its commit is already under way.
func (t *Transactional) Commit(ctx context.Context, batch *Batch) error {
	records, err := t.buffer.fill(batch, &t.opts)
	if err != nil {
		return err
	}
	if err := t.positions.Commit(ctx, records, batch.Position); err != nil {
		t.buffer = recordBuffer{} // some of its records may still be on their way
		return messageTooLarge(err)
	}
	t.buffer.release()
	return nil
}

// MaxEventBytes is the largest event, as Event.Size counts it, that the topic
// takes.
func (t *Transactional) MaxEventBytes(topic string) int { return t.opts.MaxEventBytes(topic) }

// Close gives up the stream and the connection. Nothing is pending between two
// Commits, so no event is committed by it.
func (t *Transactional) Close(ctx context.Context) error {
	if err := t.positions.Close(ctx); err != nil {
		return fmt.Errorf("close position store: %w", err)
	}
	return nil
}
