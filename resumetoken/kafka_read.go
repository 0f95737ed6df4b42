package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// firstStep is how many offsets before the end are read first; a busy stream
	// has its position there. stepFactor makes each further step that much
	// larger, so a quiet one among busy ones is found in a few steps too.
	firstStep  = 500
	stepFactor = 20
	// fetchBytes is how much one answer may hold, fetchWait how long the broker
	// may hold it back, and maxEmpty how many answers in a row may hold nothing.
	fetchBytes = 4 << 20
	fetchWait  = 500 * time.Millisecond
	maxEmpty   = 3
	// stablePoll is the pause between two looks at open transactions.
	stablePoll = 20 * time.Millisecond
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
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopicsWithInternal(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("describe topic %s: %w", name, err)
	}
	detail := topics[name]
	switch {
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		return nil, fmt.Errorf("topic %s does not exist: %w", name, detail.Err)
	case detail.Err != nil:
		return nil, fmt.Errorf("describe topic %s: %w", name, detail.Err)
	case len(detail.Partitions) == 0:
		return nil, fmt.Errorf("describe topic %s: it has no partitions", name)
	}
	return &topicLog{client: client, admin: admin, detail: detail}, nil
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

// waitStable waits until no transaction below the offset is open. One that stays
// open beyond any timeout hangs, and only an operator can end it.
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
				t.detail.Topic, partition, stable, waited.Round(time.Second))
		}
		if err := pause(ctx, stablePoll); err != nil {
			return fmt.Errorf("wait for open transactions in topic %s, partition %d: %w", t.detail.Topic, partition, err)
		}
	}
}

// lastBefore finds the newest record of a key in [start, end), or ErrNone. Its
// value is empty if an operator has deleted the key. It reads from the end backwards
// in growing steps: between two compactions the partition may hold a hundred
// thousand records, and the one that counts is almost always among the last.
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
		if last != nil {
			return last, nil
		}
		end = from
	}
	return nil, ErrNone
}

// read calls fn with each committed record in [from, to), which must lie below
// every open transaction.
func (t *topicLog) read(ctx context.Context, partition int32, from, to int64, fn func(*kgo.Record)) error {
	for empty := 0; from < to; {
		fetched, next, throttled, err := t.fetch(ctx, partition, from)
		if err != nil {
			return fmt.Errorf("read topic %s, partition %d at offset %d: %w", t.detail.Topic, partition, from, err)
		}
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
