package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
)

var _ Keeper = (*Kafka)(nil)

// releaseTimeout bounds the note of an orderly end, which nothing depends on.
const releaseTimeout = 2 * time.Second

// Inspect implements Keeper. It reads committed records only, up to the oldest
// transaction that is open; those behind it are the owner's next ones.
func (k *Kafka) Inspect(ctx context.Context) (Stored, error) {
	var stored Stored
	err := k.withTopic(ctx, func(topic *topicLog, partition int32) error {
		start, err := topic.start(ctx, partition)
		if err != nil {
			return err
		}
		end, err := topic.committed(ctx, partition)
		if err != nil {
			return err
		}
		stored.Now = time.Now()
		if err := k.inspectOwner(ctx, topic, partition, start, end, &stored); err != nil {
			return err
		}
		record, err := topic.lastBefore(ctx, partition, start, end, k.TransactionalID())
		if errors.Is(err, ErrNone) {
			record, err = k.readElsewhere(ctx, topic, partition)
		}
		switch {
		case errors.Is(err, ErrNone), err == nil && len(record.Value) == 0:
			return nil
		case err != nil:
			return err
		}
		stored.Position, err = Decode(record.Value)
		stored.Saved = record.Timestamp
		if record.Timestamp.After(stored.Owner.Seen) {
			stored.Owner.Seen = record.Timestamp
		}
		return err
	})
	if err != nil {
		return Stored{}, fmt.Errorf("read position of stream %q: %w", k.opts.Stream, err)
	}
	return stored, nil
}

// Glance reads the newest committed position of the stream's own partition, zero if
// there is none. It waits for nothing, so the newest may not be there yet.
func (k *Kafka) Glance(ctx context.Context) (Position, error) {
	var p Position
	err := k.withTopic(ctx, func(topic *topicLog, partition int32) error {
		start, err := topic.start(ctx, partition)
		if err != nil {
			return err
		}
		end, err := topic.committed(ctx, partition)
		if err != nil {
			return err
		}
		record, err := topic.lastBefore(ctx, partition, start, end, k.TransactionalID())
		if err != nil || len(record.Value) == 0 {
			return notNone(err)
		}
		p, err = Decode(record.Value)
		return err
	})
	if err != nil {
		return Position{}, fmt.Errorf("read position of stream %q: %w", k.opts.Stream, err)
	}
	return p, nil
}

func (k *Kafka) inspectOwner(ctx context.Context, topic *topicLog, partition int32, start, end int64, stored *Stored) error {
	record, err := topic.lastBefore(ctx, partition, start, end, claimKey(k.TransactionalID()))
	switch {
	case errors.Is(err, ErrNone), err == nil && len(record.Value) == 0:
		return nil
	case err != nil:
		return err
	}
	claim, err := decodeClaim(record.Value)
	if err != nil {
		return err
	}
	stored.Owner = Owner{Instance: claim.Instance, Since: claim.StartedAt, Seen: record.Timestamp}
	if claim.StoppedAt != nil {
		stored.Owner.Stopped = *claim.StoppedAt
	}
	return nil
}

// Reset implements Keeper.
func (k *Kafka) Reset(ctx context.Context, p Position) error {
	if !k.live {
		return fmt.Errorf("reset stream %q: %w", k.opts.Stream, errNotAcquired)
	}
	k.last = bson.Timestamp{}
	return k.Commit(ctx, nil, p)
}

// release writes into the claim that the stream was given up in order. It gives up
// soon, and leaves the transaction to the brokers then: a shutdown must not wait for
// brokers that are away.
func (k *Kafka) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	now := time.Now().UTC()
	value, err := Claim{Instance: k.opts.Instance, Nonce: k.nonce, StartedAt: k.claimed, StoppedAt: &now}.encode()
	if err != nil {
		return err
	}
	if err := k.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err := Deliver(ctx, k.client, []kgo.Record{k.record(claimKey(k.TransactionalID()), value)}); err != nil {
		return err
	}
	if err := k.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("end transaction: %w", err)
	}
	return nil
}
