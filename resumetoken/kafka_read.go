package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

const (
	// firstStep is how many offsets before the end are read first; a busy stream
	// has its position there. Each further step is larger by stepFactor, so that a few
	// steps also find the position of a quiet stream among busy ones.
	firstStep  = 500
	stepFactor = 20
	// fetchBytes is how much one answer may hold, fetchWait how long the broker
	// may hold it back, and maxEmpty how many answers in a row may hold nothing.
	fetchBytes = 4 << 20
	fetchWait  = 500 * time.Millisecond
	maxEmpty   = 3
	// stablePoll is the pause between two looks at open transactions.
	stablePoll = 20 * time.Millisecond
	// movePatience is how long a partition may take to get another leader, movePoll the
	// pause between two looks for that leader.
	movePatience = 15 * time.Second
	movePoll     = 100 * time.Millisecond
)

// topicLog reads committed records of one topic by offset. It asks the brokers
// itself where a consumer would do, because a consumer cannot tell that it has
// reached an offset when the records there are markers, aborted or compacted.
type topicLog struct {
	client *kgo.Client
	admin  *kadm.Client
	detail kadm.TopicDetail
}

func describeTopic(ctx context.Context, client *kgo.Client, name string) (*topicLog, error) {
	t := &topicLog{client: client, admin: kadm.NewClient(client)}
	return t, t.describe(ctx, name)
}

// describe finds out which partitions the topic has, and who leads them.
func (t *topicLog) describe(ctx context.Context, name string) error {
	topics, err := t.admin.ListTopicsWithInternal(ctx, name)
	if err != nil {
		return fmt.Errorf("describe topic %s: %w", name, err)
	}
	detail := topics[name]
	switch {
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("topic %s does not exist: %w", name, detail.Err)
	case detail.Err != nil:
		return fmt.Errorf("describe topic %s: %w", name, detail.Err)
	case len(detail.Partitions) == 0:
		return fmt.Errorf("describe topic %s: it has no partitions", name)
	}
	t.detail = detail
	return nil
}

func (t *topicLog) partitions() int { return len(t.detail.Partitions) }

// start is the offset of the first record that the partition still has.
func (t *topicLog) start(ctx context.Context, partition int32) (int64, error) {
	return t.offset(ctx, partition, t.admin.ListStartOffsets)
}

// committed is the offset up to which every transaction has ended.
func (t *topicLog) committed(ctx context.Context, partition int32) (int64, error) {
	return t.offset(ctx, partition, t.admin.ListCommittedOffsets)
}

func (t *topicLog) offset(ctx context.Context, partition int32, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (int64, error) {
	offsets, err := list(ctx, t.detail.Topic)
	if err != nil {
		return 0, fmt.Errorf("list offsets of topic %s: %w", t.detail.Topic, err)
	}
	offset, ok := offsets.Lookup(t.detail.Topic, partition)
	if !ok {
		return 0, fmt.Errorf("list offsets of topic %s: partition %d is missing", t.detail.Topic, partition)
	}
	if offset.Err != nil {
		return 0, fmt.Errorf("list offsets of topic %s, partition %d: %w", t.detail.Topic, partition, offset.Err)
	}
	return offset.Offset, nil
}

// stable is the range of offsets that the partition has now, once every
// transaction in it has ended.
func (t *topicLog) stable(ctx context.Context, partition int32, limit time.Duration) (start, end int64, err error) {
	if start, err = t.start(ctx, partition); err != nil {
		return 0, 0, err
	}
	if end, err = t.offset(ctx, partition, t.admin.ListEndOffsets); err != nil {
		return 0, 0, err
	}
	return start, end, t.waitStable(ctx, partition, end, limit)
}

// waitStable waits until no transaction below the offset is open. A transaction that stays
// open beyond the limit hangs, and only an operator can end it.
func (t *topicLog) waitStable(ctx context.Context, partition int32, offset int64, limit time.Duration) error {
	for started := time.Now(); ; {
		stable, err := t.committed(ctx, partition)
		if err != nil {
			return err
		}
		if stable >= offset {
			return nil
		}
		if waited := time.Since(started); waited > limit {
			return fmt.Errorf("topic %s, partition %d: a transaction at offset %d has been open for %s, longer than its timeout: "+
				"find it with kafka-transactions.sh find-hanging and end it with kafka-transactions.sh abort",
				t.detail.Topic, partition, stable, terminal.Duration(waited))
		}
		if wait.Sleep(ctx, stablePoll) != nil {
			return fmt.Errorf("wait for open transactions in topic %s, partition %d: %w", t.detail.Topic, partition, ctx.Err())
		}
	}
}

// lastBefore finds the newest record of a key in [start, end), or ErrNone: ErrDeleted if an
// operator has deleted the key, with an empty record. It reads from the end backwards
// in growing steps: between two compactions the partition may hold a hundred
// thousand records, and the wanted one is almost always among the last.
func (t *topicLog) lastBefore(ctx context.Context, partition int32, start, end int64, key string) (*kgo.Record, error) {
	for step := int64(firstStep); end > start; step *= stepFactor {
		from := max(start, end-step)
		var last *kgo.Record
		err := t.read(ctx, partition, from, end, func(r *kgo.Record) {
			if string(r.Key) == key {
				last = r
			}
		})
		if err != nil {
			return nil, err
		}
		switch {
		case last == nil:
			end = from
		case len(last.Value) == 0:
			return nil, ErrDeleted
		default:
			return last, nil
		}
	}
	return nil, ErrNone
}

// read calls fn with each committed record in [from, to), which must lie below
// every open transaction.
func (t *topicLog) read(ctx context.Context, partition int32, from, to int64, fn func(*kgo.Record)) error {
	var moving time.Time // since when the partition has had no known leader
	for empty := 0; from < to; {
		fetched, next, throttled, err := t.fetch(ctx, partition, from)
		if err != nil {
			if moving.IsZero() {
				moving = time.Now()
			}
			if t.moved(ctx, err, moving) {
				continue
			}
			return fmt.Errorf("read topic %s, partition %d at offset %d: %w", t.detail.Topic, partition, from, err)
		}
		moving = time.Time{}
		for _, r := range fetched.Records {
			if r.Offset < to {
				fn(r)
			}
		}
		switch {
		case next > from:
			from, empty = next, 0
		case throttled:
		case empty < maxEmpty:
			empty++
		case fetched.LastStableOffset >= to:
			return nil // compaction has left nothing up to the end
		default:
			return fmt.Errorf("read topic %s, partition %d: nothing at offset %d, wanted up to %d", t.detail.Topic, partition, from, to)
		}
	}
	return nil
}

// moved looks up the partitions' leaders again, after an error that may come from a former
// leader. It is false if the error cannot be a former leader's, if the errors have lasted
// longer than movePatience, or if the look-up fails.
func (t *topicLog) moved(ctx context.Context, err error, since time.Time) bool {
	if broker := (*kerr.Error)(nil); errors.As(err, &broker) && !broker.Retriable || time.Since(since) > movePatience {
		return false
	}
	// The caller reports err, which tells more than an error of this look-up.
	return wait.Sleep(ctx, movePoll) == nil && t.describe(ctx, t.detail.Topic) == nil
}

// fetch asks the partition's leader once. next is the offset to go on at.
func (t *topicLog) fetch(ctx context.Context, partition int32, from int64) (fetched kgo.FetchPartition, next int64, throttled bool, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = int32(fetchWait.Milliseconds())
	req.MinBytes = 1
	req.MaxBytes = fetchBytes
	req.IsolationLevel = 1 // read committed
	req.SessionEpoch = -1  // no session: this is not a consumer
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = t.detail.Topic, t.detail.ID
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, from, fetchBytes
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)

	leader := t.detail.Partitions[partition].Leader
	if leader < 0 {
		return fetched, from, false, kerr.LeaderNotAvailable
	}
	answer, err := t.client.Broker(int(leader)).RetriableRequest(ctx, req)
	if err != nil {
		return fetched, from, false, err
	}
	resp, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return fetched, from, false, fmt.Errorf("the answer is a %T", answer)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fetched, from, false, err
	}
	throttled = resp.ThrottleMillis > 0
	if len(resp.Topics) == 0 || len(resp.Topics[0].Partitions) == 0 {
		return fetched, from, throttled, nil
	}
	fetched, next = kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset:         from,
		IsolationLevel: kgo.ReadCommitted(),
		Topic:          t.detail.Topic,
		Partition:      partition,
	}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return fetched, next, throttled, fetched.Err
}

// historyHours is how far back positions are kept for a replay by time. It is
// long enough for a weekend's incident to be noticed on the day after, and short
// beside the time that an oplog covers.
const historyHours = 48

// History reads the positions that are kept beside the current one, oldest
// first: the first of each of the last 48 hours in which the stream moved. It
// does not acquire the stream.
func (k *Kafka) History(ctx context.Context) ([]Position, error) {
	kept := make(map[string]Position)
	err := k.withTopic(ctx, func(topic *topicLog, partition int32) error {
		start, end, err := topic.stable(ctx, partition, k.hangLimit())
		if err != nil {
			return err
		}
		var broken error
		err = topic.read(ctx, partition, start, end, func(r *kgo.Record) {
			key := string(r.Key)
			if !strings.HasPrefix(key, k.TransactionalID()+"@") || broken != nil {
				return
			}
			if len(r.Value) == 0 {
				delete(kept, key)
				return
			}
			var p Position
			if p, broken = Decode(r.Value); broken == nil {
				kept[key] = p
			}
		})
		if err != nil {
			return err
		}
		return broken
	})
	if err != nil {
		return nil, fmt.Errorf("read history of stream %q: %w", k.opts.Stream, err)
	}
	positions := make([]Position, 0, len(kept))
	for _, p := range kept {
		positions = append(positions, p)
	}
	slices.SortFunc(positions, func(a, b Position) int { return a.order().Compare(b.order()) })
	return positions, nil
}

// positionRecords are a transaction's records for a position. The last one is the position
// under the stream's key. With the first position of an hour, the same value under the
// hour's key and the deletions of hours that have become too old come before it. Hours are
// those of the cluster time, so that a drained backlog has its history too.
func (k *Kafka) positionRecords(p Position) ([]kgo.Record, error) {
	value, err := Encode(p, k.opts.Instance)
	if err != nil {
		return nil, err
	}
	position := k.record(k.TransactionalID(), value)
	hour := hourOf(p.order())
	if !hour.After(k.hour) {
		return []kgo.Record{position}, nil
	}
	records := []kgo.Record{k.record(k.hourKey(hour), value)}
	if !k.hour.IsZero() {
		// Hours between k.hour and hour have no records: the stream stood still.
		oldest, newest := k.hour.Add((1-historyHours)*time.Hour), hour.Add(-historyHours*time.Hour)
		for old := oldest; !old.After(newest) && !old.After(k.hour); old = old.Add(time.Hour) {
			records = append(records, k.record(k.hourKey(old), nil))
		}
	}
	return append(records, position), nil
}

func (k *Kafka) hourKey(hour time.Time) string {
	return k.TransactionalID() + "@" + hour.Format(time.RFC3339)
}

// hourOf is the hour of a cluster time, zero for none.
func hourOf(t bson.Timestamp) time.Time {
	if t.T == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t.T), 0).UTC().Truncate(time.Hour)
}

var _ Keeper = (*Kafka)(nil)

// releaseTimeout bounds the note of an orderly end, which nothing depends on.
const releaseTimeout = 2 * time.Second

// Inspect implements Keeper. It reads committed records only, up to the oldest open
// transaction.
func (k *Kafka) Inspect(ctx context.Context) (Stored, error) {
	var stored Stored
	err := k.withReadable(ctx, func(topic *topicLog, partition int32, start, end int64) error {
		stored.Now = time.Now()
		if err := k.inspectOwner(ctx, topic, partition, start, end, &stored); err != nil {
			return err
		}
		record, err := k.lastPosition(ctx, topic, partition, start, end)
		switch {
		case errors.Is(err, ErrNone):
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
// there is none. It does not wait for open transactions, so it may miss a position that
// is being committed.
func (k *Kafka) Glance(ctx context.Context) (Position, error) {
	var p Position
	err := k.withReadable(ctx, func(topic *topicLog, partition int32, start, end int64) error {
		record, err := topic.lastBefore(ctx, partition, start, end, k.TransactionalID())
		if errors.Is(err, ErrNone) {
			return nil
		}
		if err != nil {
			return err
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
	case errors.Is(err, ErrNone):
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

// release records the stream's orderly end in the claim. It gives up after releaseTimeout
// and leaves the transaction to the brokers: a shutdown must not wait for brokers that do
// not answer.
func (k *Kafka) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	now := time.Now().UTC()
	value, err := claim{Instance: k.opts.Instance, Nonce: k.nonce, StartedAt: k.claimed, StoppedAt: &now}.encode()
	if err != nil {
		return err
	}
	if err := k.begin(ctx); err != nil {
		return err
	}
	if err := Deliver(ctx, k.client, []kgo.Record{k.record(claimKey(k.TransactionalID()), value)}); err != nil {
		return err
	}
	return k.commit(ctx)
}
