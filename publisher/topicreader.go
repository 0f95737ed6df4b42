package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

// TopicRange is what is read of one partition: the records of From to End.
type TopicRange struct {
	From, End int64
	// top is the offset after the partition's last record, as it was when the range was found.
	// It is after End if a transaction was still open then that should have ended before.
	top int64
	// Trimmed says that the partition may have had records before From.
	Trimmed bool
	done    bool
}

// TopicReader reads topics from a time to their ends.
//
// Two other readers of topics do something else: tail goes on after the end and waits for no
// transaction, and the reader of positions (resumetoken) seeks one key from the end of one
// partition backwards, where compaction may have left nothing at an end.
type TopicReader struct {
	// Ranges are by topic and partition, Total the offsets in all of them.
	Ranges map[string]map[int32]*TopicRange
	Total  int64

	options []kgo.Opt
	client  *kgo.Client
	left    int // partitions that are not read to their ends
}

const (
	// fetchBytes bounds the bytes that the brokers send at once, and with it the memory.
	fetchBytes     = 16 << 20
	fetchPartition = 1 << 20
	// readStall is how long no record may come while there must be more.
	readStall = 2 * time.Minute
)

// OpenTopics finds the ranges of committed records, from the first record since a time to the
// records that are the newest now. It waits for open transactions. A transaction that is still
// open after patience ends its partition's range (Held).
func OpenTopics(ctx context.Context, options []kgo.Opt, topics []string, since time.Time, patience Patience) (*TopicReader, error) {
	return openTopics(ctx, options, topics, since, 0, patience)
}

// shorten leaves of each range its newest offsets.
func (r *TopicReader) shorten(newest int64) {
	for _, partitions := range r.Ranges {
		for _, part := range partitions {
			part.From = max(part.From, part.End-newest)
		}
	}
}

// openTopics is OpenTopics with ranges of newest offsets at most, unless that is 0.
func openTopics(ctx context.Context, options []kgo.Opt, topics []string, since time.Time, newest int64, patience Patience) (*TopicReader, error) {
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	defer client.Close()
	r := &TopicReader{Ranges: map[string]map[int32]*TopicRange{}, options: options}
	if err := r.find(ctx, kadm.NewClient(client), topics, since, patience); err != nil {
		return nil, fmt.Errorf("find the records of %v: %w", topics, err)
	}
	if newest > 0 {
		r.shorten(newest)
	}
	return r, r.open(kgo.ReadCommitted())
}

// Held reads the records behind the transactions that should have ended: a consumer of
// committed records does not see them. It is nil if there are none.
func (r *TopicReader) Held() (*TopicReader, error) {
	held := &TopicReader{Ranges: map[string]map[int32]*TopicRange{}, options: r.options}
	for topic, partitions := range r.Ranges {
		for p, part := range partitions {
			if part.top > part.End {
				held.add(topic, p, &TopicRange{From: part.End, End: part.top})
			}
		}
	}
	if len(held.Ranges) == 0 {
		return nil, nil //nolint:nilnil // nothing is held
	}
	return held, held.open(kgo.ReadUncommitted())
}

func (r *TopicReader) add(topic string, partition int32, part *TopicRange) {
	if r.Ranges[topic] == nil {
		r.Ranges[topic] = map[int32]*TopicRange{}
	}
	r.Ranges[topic][partition] = part
}

// open begins to read the ranges.
func (r *TopicReader) open(isolation kgo.IsolationLevel) (err error) {
	begin := map[string]map[int32]kgo.Offset{}
	for topic, partitions := range r.Ranges {
		for p, part := range partitions {
			if part.done = part.From >= part.End; part.done {
				continue
			}
			r.left++
			r.Total += part.End - part.From
			if begin[topic] == nil {
				begin[topic] = map[int32]kgo.Offset{}
			}
			begin[topic][p] = kgo.NewOffset().At(part.From)
		}
	}
	own := []kgo.Opt{
		kgo.ConsumePartitions(begin), kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), // they tell that a partition has been read to its end
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchPartition), kgo.MaxConcurrentFetches(2),
	}
	if r.client, err = kgo.NewClient(slices.Concat(r.options, own)...); err != nil {
		return fmt.Errorf("configure kafka client: %w", err)
	}
	return nil
}

// listed are offsets, or an error among them.
func listed(offsets kadm.ListedOffsets, err error) (kadm.ListedOffsets, error) {
	offsets.Each(func(o kadm.ListedOffset) {
		if err == nil && o.Err != nil {
			err = fmt.Errorf("topic %s: %w", o.Topic, o.Err)
		}
	})
	return offsets, err
}

func (r *TopicReader) find(ctx context.Context, admin *kadm.Client, topics []string, since time.Time, patience Patience) error {
	starts, err := listed(admin.ListStartOffsets(ctx, topics...))
	if err != nil {
		return err
	}
	from, err := listed(admin.ListOffsetsAfterMilli(ctx, since.UnixMilli(), topics...))
	if err != nil {
		return err
	}
	// A committed transaction is readable in one partition before it is in another: its position
	// may be there without its events. So the reading waits until all up to these ends is decided.
	tops, err := listed(admin.ListEndOffsets(ctx, topics...))
	if err != nil {
		return err
	}
	ends, err := stableEnds(ctx, admin, topics, from, tops, patience)
	if err != nil {
		return err
	}
	ends.Each(func(end kadm.ListedOffset) {
		top, _ := tops.Lookup(end.Topic, end.Partition)
		start, _ := starts.Lookup(end.Topic, end.Partition)
		first, ok := from.Lookup(end.Topic, end.Partition)
		part := &TopicRange{From: end.Offset, End: end.Offset, top: top.Offset}
		switch {
		case ok && first.Offset >= top.Offset:
			part = &TopicRange{From: top.Offset, End: top.Offset, top: top.Offset}
		case ok && first.Offset >= 0:
			part.From = max(first.Offset, start.Offset)
		}
		part.Trimmed = start.Offset > 0 && part.From <= start.Offset
		r.add(end.Topic, end.Partition, part)
	})
	return nil
}

// stablePoll is the pause between two looks at open transactions.
const stablePoll = 200 * time.Millisecond

// Patience is for open transactions.
type Patience struct {
	Limit time.Duration
	// Waits, if set, is called with the first partition that one is waited for in.
	Waits func(topic string, partition int32)
}

// waitsAfter is how long a transaction stays open before Waits is called: a busy stream's
// transactions end sooner.
const waitsAfter = time.Second

// stableEnds returns the ends of the committed records, once all records up to tops are decided
// or the patience is over. It does not wait for a partition whose reading begins at its top.
func stableEnds(ctx context.Context, admin *kadm.Client, topics []string, from, tops kadm.ListedOffsets, patience Patience) (kadm.ListedOffsets, error) {
	told := patience.Waits == nil
	for begin := time.Now(); ; {
		ends, err := listed(admin.ListCommittedOffsets(ctx, topics...))
		if err != nil {
			return nil, err
		}
		open := false
		ends.Each(func(end kadm.ListedOffset) {
			top, _ := tops.Lookup(end.Topic, end.Partition)
			first, ok := from.Lookup(end.Topic, end.Partition)
			if end.Offset >= top.Offset || ok && first.Offset >= top.Offset {
				return
			}
			open = true
			if !told && time.Since(begin) > waitsAfter {
				told = true
				patience.Waits(end.Topic, end.Partition)
			}
		})
		if !open || time.Since(begin) > patience.Limit {
			return ends, nil
		}
		if err := wait.Sleep(ctx, stablePoll); err != nil {
			return nil, err
		}
	}
}

// Each hands over all records of the ranges, those of a partition in order.
func (r *TopicReader) Each(ctx context.Context, fn func(*kgo.Record) error) error {
	for r.left > 0 {
		waiting, cancel := context.WithTimeout(ctx, readStall)
		fetches := r.client.PollRecords(waiting, 10_000)
		stalled := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if stalled {
			return fmt.Errorf("read topics: no record for %s although there must be more: a transaction may hang", terminal.Duration(readStall))
		}
		var errs []error
		fetches.EachError(func(topic string, partition int32, err error) {
			if topic != "" { // the client's own errors are of none
				err = fmt.Errorf("read topic %s, partition %d: %w", topic, partition, err)
			}
			errs = append(errs, err)
		})
		if err := errors.Join(errs...); err != nil {
			return err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			record := it.Next()
			part := r.Ranges[record.Topic][record.Partition]
			if record.Offset < part.End && !record.Attrs.IsControl() {
				if err := fn(record); err != nil {
					return err
				}
			}
			if record.Offset >= part.End-1 && !part.done {
				part.done = true
				r.left--
				r.client.PauseFetchPartitions(map[string][]int32{record.Topic: {record.Partition}})
			}
		}
	}
	return nil
}

// Close ends the connections.
func (r *TopicReader) Close() { r.client.Close() }
