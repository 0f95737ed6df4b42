package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topicRange is what is read of one partition.
type topicRange struct {
	from, end int64
	// top is the offset after the last record, behind which there was nothing yet when
	// the range was found. It is after end while a transaction is open that should have
	// ended by then.
	top int64
	// trimmed says that the partition may have had records before from.
	trimmed bool
	done    bool
}

// topicReader reads ranges of topics, committed records only.
type topicReader struct {
	client *kgo.Client
	ranges map[string]map[int32]*topicRange
	left   int // partitions that are not read to their ends
	total  int64
}

const (
	// fetchBytes bounds what the brokers send at once, and with it the memory.
	fetchBytes     = 16 << 20
	fetchPartition = 1 << 20
	// readStall is how long no record may come while there must be more. It is longer
	// than the brokers' longest transactions by default.
	readStall = 2 * time.Minute
)

// openTopics finds the ranges: from the first record of a time to what has been written
// by now, be it committed yet or not. Transactions that are open are waited for; one that
// is still open after patience ends its partition's range (held).
func openTopics(ctx context.Context, options []kgo.Opt, topics []string, since time.Time, patience patience) (*topicReader, error) {
	admin, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	defer admin.Close()
	r := &topicReader{ranges: map[string]map[int32]*topicRange{}}
	if err := r.find(ctx, kadm.NewClient(admin), topics, since, patience); err != nil {
		return nil, fmt.Errorf("find the records of %v: %w", topics, err)
	}
	return r, r.open(options, kgo.ReadCommitted())
}

// held reads what is behind the transactions that should have ended: records that no
// consumer sees that reads committed ones. Nil if there is nothing.
func (r *topicReader) held(options []kgo.Opt) (*topicReader, error) {
	tail := &topicReader{ranges: map[string]map[int32]*topicRange{}}
	for topic, partitions := range r.ranges {
		for p, part := range partitions {
			if part.top <= part.end {
				continue
			}
			if tail.ranges[topic] == nil {
				tail.ranges[topic] = map[int32]*topicRange{}
			}
			tail.ranges[topic][p] = &topicRange{from: part.end, end: part.top}
		}
	}
	if len(tail.ranges) == 0 {
		return nil, nil
	}
	return tail, tail.open(options, kgo.ReadUncommitted())
}

// open begins to read the ranges.
func (r *topicReader) open(options []kgo.Opt, isolation kgo.IsolationLevel) (err error) {
	begin := map[string]map[int32]kgo.Offset{}
	for topic, partitions := range r.ranges {
		for p, part := range partitions {
			if part.from >= part.end {
				part.done = true
				continue
			}
			r.left++
			r.total += part.end - part.from
			if begin[topic] == nil {
				begin[topic] = map[int32]kgo.Offset{}
			}
			begin[topic][p] = kgo.NewOffset().At(part.from)
		}
	}
	own := []kgo.Opt{
		kgo.ConsumePartitions(begin), kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), // they are what tells that a partition has been read to its end
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchPartition), kgo.MaxConcurrentFetches(2),
	}
	if r.client, err = kgo.NewClient(append(append([]kgo.Opt{}, options...), own...)...); err != nil {
		return fmt.Errorf("configure kafka client: %w", err)
	}
	return nil
}

func (r *topicReader) find(ctx context.Context, admin *kadm.Client, topics []string, since time.Time, patience patience) error {
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	from, err := admin.ListOffsetsAfterMilli(ctx, since.UnixMilli(), topics...)
	if err == nil {
		err = from.Error()
	}
	if err != nil {
		return err
	}
	// Not what can be read now: a transaction that has been committed is readable in one
	// partition before it is in another, so that a position is there and its events are
	// not. Up to the ends everything will be decided soon, and that is waited for.
	tops, err := admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = tops.Error()
	}
	if err != nil {
		return err
	}
	ends, err := stableEnds(ctx, admin, topics, tops, patience)
	if err != nil {
		return err
	}
	ends.Each(func(end kadm.ListedOffset) {
		top, _ := tops.Lookup(end.Topic, end.Partition)
		start, _ := starts.Lookup(end.Topic, end.Partition)
		first, ok := from.Lookup(end.Topic, end.Partition)
		part := &topicRange{from: end.Offset, end: end.Offset, top: top.Offset}
		if ok && first.Offset >= 0 {
			part.from = max(first.Offset, start.Offset)
		}
		part.trimmed = start.Offset > 0 && part.from <= start.Offset
		if r.ranges[end.Topic] == nil {
			r.ranges[end.Topic] = map[int32]*topicRange{}
		}
		r.ranges[end.Topic][end.Partition] = part
	})
	return nil
}

// stablePoll is the pause between two looks at open transactions.
const stablePoll = 200 * time.Millisecond

// patience is for open transactions.
type patience struct {
	limit time.Duration
	// tell, if set, is told of one that is waited for.
	tell func(topic string, partition int32)
}

// tellAfter is how long a transaction is waited for before that is told: those of a stream
// that is busy end sooner.
const tellAfter = time.Second

// stableEnds are the ends of what can be read as committed, once that is all up to tops,
// or the patience is over.
func stableEnds(ctx context.Context, admin *kadm.Client, topics []string, tops kadm.ListedOffsets, patience patience) (kadm.ListedOffsets, error) {
	ticker := time.NewTicker(stablePoll)
	defer ticker.Stop()
	told := patience.tell == nil
	for begin := time.Now(); ; {
		ends, err := admin.ListCommittedOffsets(ctx, topics...)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return nil, err
		}
		open := false
		ends.Each(func(end kadm.ListedOffset) {
			top, _ := tops.Lookup(end.Topic, end.Partition)
			if end.Offset >= top.Offset {
				return
			}
			open = true
			if !told && time.Since(begin) > tellAfter {
				told = true
				patience.tell(end.Topic, end.Partition)
			}
		})
		if !open || time.Since(begin) > patience.limit {
			return ends, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// each hands over all records of the ranges, those of a partition in order.
func (r *topicReader) each(ctx context.Context, fn func(*kgo.Record) error) error {
	for r.left > 0 {
		waiting, cancel := context.WithTimeout(ctx, readStall)
		fetches := r.client.PollRecords(waiting, 10_000)
		stalled := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if stalled {
			return fmt.Errorf("read topics: no record for %s although there must be more: a transaction may hang", readStall)
		}
		var errs []error
		fetches.EachError(func(topic string, partition int32, err error) {
			errs = append(errs, fmt.Errorf("read topic %s, partition %d: %w", topic, partition, err))
		})
		if err := errors.Join(errs...); err != nil {
			return err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			record := it.Next()
			part := r.ranges[record.Topic][record.Partition]
			if record.Offset < part.end && !record.Attrs.IsControl() {
				if err := fn(record); err != nil {
					return err
				}
			}
			if record.Offset >= part.end-1 && !part.done {
				part.done = true
				r.left--
				r.client.PauseFetchPartitions(map[string][]int32{record.Topic: {record.Partition}})
			}
		}
	}
	return nil
}

func (r *topicReader) close() { r.client.Close() }

// The beginnings of the values of events, up to the id. Foreign ones may have it
// anywhere.
func idPrefixes() [][]byte {
	return [][]byte{[]byte(`{"resourceType":"AuditEvent","id":"`), []byte(`{"specversion":"1.0","id":"`)}
}

// eventID is the id of a record's event: the header ce_id, else the value's member id.
// It is false if there is none that an event of ours could have.
func eventID(record *kgo.Record, prefixes [][]byte) (uuid.UUID, bool) {
	const text = 36
	for _, h := range record.Headers {
		if h.Key == "ce_id" {
			return parseID(h.Value)
		}
	}
	for _, p := range prefixes {
		if len(record.Value) >= len(p)+text && bytes.HasPrefix(record.Value, p) {
			return parseID(record.Value[len(p):][:text])
		}
	}
	var body struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(record.Value, &body) != nil {
		return uuid.UUID{}, false
	}
	return parseID([]byte(body.ID))
}

func parseID(text []byte) (uuid.UUID, bool) {
	if len(text) != 36 {
		return uuid.UUID{}, false
	}
	id, err := uuid.ParseBytes(text)
	return id, err == nil
}
