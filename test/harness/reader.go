package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Reader consumes topics from their beginning, as a consumer that reads only what
// is committed. It holds each record against the contract. It is for one goroutine.
type Reader struct {
	client *kgo.Client
	topics []string
	// records are those read so far; the ones of a partition are in its order.
	records []Record
	// next is the offset behind the last record of each partition, be it one of
	// ours or the mark of a transaction's end.
	next map[string]map[int32]int64
}

// NewReader consumes topics; they may come into being later.
func NewReader(t testing.TB, brokers []string, topics ...string) *Reader {
	t.Helper()
	client, err := kgo.NewClient(append(Consuming(t, topics...),
		kgo.SeedBrokers(brokers...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // they are what tells that a partition has been read to its end
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.MetadataMinAge(50*time.Millisecond),
		kgo.MetadataMaxAge(time.Second),
	)...)
	if err != nil {
		t.Fatalf("make a consumer: %v", err)
	}
	t.Cleanup(client.Close)
	return &Reader{client: client, topics: topics, next: map[string]map[int32]int64{}}
}

// Records are the records read so far.
func (r *Reader) Records() []Record { return slices.Clone(r.records) }

// Until reads until enough holds of the records read so far, and returns them.
// The error, when ctx ends first, comes with what there is.
func (r *Reader) Until(ctx context.Context, enough func([]Record) bool) ([]Record, error) {
	for !enough(r.records) {
		if err := r.poll(ctx); err != nil {
			return r.Records(), fmt.Errorf("read %v, %d records so far: %w", r.topics, len(r.records), err)
		}
	}
	return r.Records(), nil
}

// UntilIDs reads until every one of the event ids has come.
func (r *Reader) UntilIDs(ctx context.Context, ids ...string) ([]Record, error) {
	missing := make(map[string]bool, len(ids))
	for _, id := range ids {
		missing[id] = true
	}
	seen := 0
	records, err := r.Until(ctx, func(records []Record) bool {
		for ; seen < len(records); seen++ {
			delete(missing, records[seen].EventID())
		}
		return len(missing) == 0
	})
	if err != nil {
		return records, fmt.Errorf("%d of %d event ids have not come: %w", len(missing), len(ids), err)
	}
	return records, nil
}

// End reads to the end that all partitions have at the time of the call, and
// returns all records read so far. What has been written by then and is committed is
// among them; a transaction that is open is waited for. Every topic has to exist.
func (r *Reader) End(ctx context.Context) ([]Record, error) {
	// A transaction that has been committed is not readable in all partitions at once:
	// what has been written is waited for, until it is decided.
	ends, err := kadm.NewClient(r.client).ListEndOffsets(ctx, r.topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return r.Records(), fmt.Errorf("ask for the ends of %v: %w", r.topics, err)
	}
	return r.Until(ctx, func([]Record) bool {
		done := true
		ends.Each(func(end kadm.ListedOffset) {
			done = done && r.next[end.Topic][end.Partition] >= end.Offset
		})
		return done
	})
}

func (r *Reader) poll(ctx context.Context) error {
	fetches := r.client.PollFetches(ctx)
	var errs []error
	fetches.EachError(func(topic string, partition int32, err error) {
		errs = append(errs, fmt.Errorf("topic %s, partition %d: %w", topic, partition, err))
	})
	if err := context.Cause(ctx); err != nil {
		return err
	}
	fetches.EachRecord(func(record *kgo.Record) {
		if r.next[record.Topic] == nil {
			r.next[record.Topic] = map[int32]int64{}
		}
		r.next[record.Topic][record.Partition] = record.Offset + 1
		if !record.Attrs.IsControl() {
			r.records = append(r.records, newRecord(record))
		}
	})
	return errors.Join(errs...)
}
