package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// createTopic makes an empty topic whose records carry the broker's time, and waits
// until it can be used.
func createTopic(ctx context.Context, admin *kadm.Client, topic string, partitions int) error {
	byBroker := "LogAppendTime"
	reply, err := admin.CreateTopic(ctx, int32(partitions), 1, map[string]*string{"message.timestamp.type": &byBroker}, topic)
	if err == nil {
		err = reply.Err
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		// For a moment the broker does not know the topic that it has made.
		_, err := committed(ctx, admin, topic)
		if err == nil || !kerr.IsRetriable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

func deleteTopic(ctx context.Context, admin *kadm.Client, topic string) error {
	if _, err := admin.DeleteTopic(ctx, topic); err != nil {
		return fmt.Errorf("delete topic %s: %w", topic, err)
	}
	return nil
}

// committed is the sum of the topic's offsets below which everything is committed.
// The marks of transactions count as well as records.
func committed(ctx context.Context, admin *kadm.Client, topic string) (int64, error) {
	offsets, err := admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the end of %s: %w", topic, err)
	}
	var sum int64
	offsets.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum, nil
}

// contents is what a consumer finds in a topic.
type contents struct {
	records, distinct int
	// disordered counts the records of a partition that have a lower number than the
	// one before. The backlog itself has a few: two writers made it.
	disordered  int
	bytes       int64
	first, last time.Time // by the broker's clock
}

// duplicates are the records whose document had one already.
func (c contents) duplicates() int { return c.records - c.distinct }

// readTopic reads what is committed of a run's records now.
func readTopic(ctx context.Context, brokers []string, admin *kadm.Client, topic, run string) (contents, error) {
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return contents{}, fmt.Errorf("ask for the end of %s: %w", topic, err)
	}
	start := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			start[o.Partition], left[o.Partition] = kgo.NewOffset().At(0), o.Offset
		}
	})
	if len(left) == 0 {
		return contents{}, nil
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: start}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // else the end of a partition would never be reached
		kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return contents{}, fmt.Errorf("make consumer: %w", err)
	}
	defer client.Close()
	var c contents
	seen := map[int]bool{}
	previous := map[int32]int{}
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return contents{}, fmt.Errorf("read %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			d, ok := documentOf(r, run)
			if r.Attrs.IsControl() || !ok {
				return
			}
			c.add(r)
			seen[d.number] = true
			if last, ok := previous[r.Partition]; ok && d.number < last {
				c.disordered++
			}
			previous[r.Partition] = d.number
		})
	}
	c.distinct = len(seen)
	return c, nil
}

func (c *contents) add(r *kgo.Record) {
	c.records++
	c.bytes += int64(len(r.Value))
	if c.first.IsZero() || r.Timestamp.Before(c.first) {
		c.first = r.Timestamp
	}
	if r.Timestamp.After(c.last) {
		c.last = r.Timestamp
	}
}
