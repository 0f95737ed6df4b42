package resumetoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// claimPoll is the pause between two looks at who claims the stream.
const claimPoll = 200 * time.Millisecond

// Claim says who has acquired a stream.
type Claim struct {
	// Instance names the process, as its configuration does.
	Instance string `json:"instance"`
	// Nonce is different for every Acquire, so that a process knows its own.
	Nonce string `json:"nonce"`
	// StartedAt is the process's clock when it acquired, for people.
	StartedAt time.Time `json:"startedAt"`
	// StoppedAt is its clock when it gave the stream up in order, for people and for
	// commands that must not touch a running stream.
	StoppedAt *time.Time `json:"stoppedAt,omitempty"`
}

func claimKey(stream string) string { return stream + "#owner" }

func (c Claim) encode() ([]byte, error) {
	value, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode claim: %w", err)
	}
	return value, nil
}

func decodeClaim(value []byte) (Claim, error) {
	var c Claim
	if err := json.Unmarshal(value, &c); err != nil {
		return Claim{}, fmt.Errorf("decode claim of %d bytes: %w", len(value), err)
	}
	return c, nil
}

// Owner reads who acquired the stream last, without acquiring it; ErrNone if
// nobody ever has.
func (k *Kafka) Owner(ctx context.Context) (Claim, error) {
	claim, err := k.claimSince(ctx, 0)
	if err != nil {
		return Claim{}, fmt.Errorf("read owner of stream %q: %w", k.opts.Stream, err)
	}
	return claim, nil
}

// claimSince reads the newest committed claim at or after an offset of the
// stream's partition. It does not wait for open transactions: one of this
// stream's own would be ended before anybody else could claim it.
func (k *Kafka) claimSince(ctx context.Context, offset int64) (Claim, error) {
	var claim Claim
	err := k.withTopic(ctx, func(topic *topicLog, partition int32) error {
		start, err := topic.start(ctx, partition)
		if err != nil {
			return err
		}
		end, err := topic.committed(ctx, partition)
		if err != nil {
			return err
		}
		key := claimKey(k.TransactionalID())
		record, err := topic.lastBefore(ctx, partition, max(start, offset), end, key)
		if err != nil {
			return err
		}
		if len(record.Value) == 0 {
			return ErrNone
		}
		claim, err = decodeClaim(record.Value)
		return err
	})
	return claim, err
}

// withTopic calls fn with the position topic and the stream's partition of it,
// through the client that there is or one for the occasion.
func (k *Kafka) withTopic(ctx context.Context, fn func(*topicLog, int32) error) error {
	client := k.client
	if client == nil {
		var err error
		if client, err = kgo.NewClient(k.opts.ClientOptions...); err != nil {
			return fmt.Errorf("configure kafka client: %w", err)
		}
		defer client.Close()
	}
	topic, err := describeTopic(ctx, client, k.opts.Topic)
	if err != nil {
		return err
	}
	partition := k.partition
	if k.client == nil {
		partition = PartitionOf(k.TransactionalID(), topic.partitions())
	}
	return fn(topic, partition)
}

// hangLimit is how long any transaction in the position topic may stay open:
// all installations that share the topic are taken to have the same timeout.
func (k *Kafka) hangLimit() time.Duration { return k.opts.TransactionTimeout + k.hangMargin }

// readPosition reads the last committed position of the stream. This process's
// claim is the newest record that matters: behind it nobody else can commit.
func (k *Kafka) readPosition(ctx context.Context, topic *topicLog) (Position, error) {
	if err := topic.waitStable(ctx, k.partition, k.offset+1, k.hangLimit()); err != nil {
		return Position{}, err
	}
	if err := k.checkClaim(ctx, topic); err != nil {
		return Position{}, err
	}
	start, err := topic.start(ctx, k.partition)
	if err != nil {
		return Position{}, err
	}
	record, err := topic.lastBefore(ctx, k.partition, start, k.offset, k.TransactionalID())
	switch {
	case errors.Is(err, ErrNone):
		record, err = k.readElsewhere(ctx, topic, k.partition)
		if err != nil {
			return Position{}, err
		}
		return Decode(record.Value)
	case err != nil:
		return Position{}, err
	case len(record.Value) == 0:
		return Position{}, ErrDeleted // so that the stream starts anew
	}
	return Decode(record.Value)
}

// checkClaim makes sure that this process's claim has been committed. Everything
// else rests on it, and it is one small reading.
func (k *Kafka) checkClaim(ctx context.Context, topic *topicLog) error {
	record, err := topic.lastBefore(ctx, k.partition, k.offset, k.offset+1, claimKey(k.TransactionalID()))
	if errors.Is(err, ErrNone) {
		return errors.New("the claim was not committed although the brokers acknowledged it")
	}
	if err != nil {
		return err
	}
	claim, err := decodeClaim(record.Value)
	if err != nil {
		return err
	}
	if claim.Nonce != k.nonce {
		return fmt.Errorf("at the claim's offset is another one: %q since %s", claim.Instance, claim.StartedAt.Format(time.RFC3339))
	}
	return nil
}

// readElsewhere looks for the stream's position in the partitions that are not its
// own. It is there if the topic has been given more partitions since, and to miss it
// would be to start the stream anew and skip changes.
func (k *Kafka) readElsewhere(ctx context.Context, topic *topicLog, own int32) (*kgo.Record, error) {
	var found *kgo.Record
	var newest bson.Timestamp
	for partition := range int32(topic.partitions()) {
		if partition == own {
			continue
		}
		start, end, err := topic.stable(ctx, partition, k.hangLimit())
		if err != nil {
			return nil, err
		}
		record, err := topic.lastBefore(ctx, partition, start, end, k.TransactionalID())
		if errors.Is(err, ErrNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(record.Value) == 0 {
			continue
		}
		p, err := Decode(record.Value)
		if err != nil {
			return nil, err
		}
		if found == nil || p.ClusterTime.After(newest) {
			found, newest = record, p.ClusterTime
		}
	}
	if found == nil {
		return nil, ErrNone
	}
	return found, nil
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
