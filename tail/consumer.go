package tail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/wait"
)

// Start says where reading begins; the zero Start is the present end.
type Start struct {
	// Beginning is the oldest record that the topics still have.
	Beginning bool
	// Since is the time of the first record, by the records' own times.
	Since time.Time
}

// Consumer reads the committed records of topics. It is for one goroutine. It joins no
// group and commits no offsets, so nobody notices it. Partitions that are added to a
// topic meanwhile are read from their beginning.
type Consumer struct {
	client *kgo.Client
	admin  *kadm.Client
	topics []string
	// next is the offset behind the last record of each partition, including the markers
	// of transactions.
	next map[string]map[int32]int64
	// looked is when new partitions were last looked for.
	looked time.Time
}

// lookInterval is how often new partitions are looked for.
const lookInterval = 2 * time.Second

// NewConsumer begins at start; the topics must exist. options reach the brokers.
func NewConsumer(ctx context.Context, options []kgo.Opt, topics []string, start Start) (*Consumer, error) {
	asking, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	defer asking.Close()
	offsets, err := begin(ctx, kadm.NewClient(asking), topics, start)
	if err != nil {
		return nil, err
	}
	c := &Consumer{topics: topics, next: map[string]map[int32]int64{}, looked: time.Now()}
	at := map[string]map[int32]kgo.Offset{}
	offsets.Each(func(o kadm.ListedOffset) {
		if at[o.Topic] == nil {
			at[o.Topic], c.next[o.Topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		}
		at[o.Topic][o.Partition], c.next[o.Topic][o.Partition] = kgo.NewOffset().At(o.Offset), o.Offset
	})
	own := []kgo.Opt{
		kgo.ConsumePartitions(at),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // else the end of a partition would never be reached
		kgo.FetchMinBytes(1), kgo.FetchMaxWait(100 * time.Millisecond),
	}
	if c.client, err = kgo.NewClient(slices.Concat(options, own)...); err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	c.admin = kadm.NewClient(c.client)
	return c, nil
}

// begin asks until it gets an answer: for a moment brokers do not know topics that they
// have just made.
func begin(ctx context.Context, admin *kadm.Client, topics []string, start Start) (kadm.ListedOffsets, error) {
	for {
		offsets, err := list(ctx, admin, topics, start)
		if err == nil || !kerr.IsRetriable(err) {
			return offsets, err
		}
		if err := wait.Sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func list(ctx context.Context, admin *kadm.Client, topics []string, start Start) (offsets kadm.ListedOffsets, err error) {
	switch {
	case start.Beginning:
		offsets, err = admin.ListStartOffsets(ctx, topics...)
	case !start.Since.IsZero():
		offsets, err = admin.ListOffsetsAfterMilli(ctx, start.Since.UnixMilli(), topics...)
	default:
		offsets, err = admin.ListCommittedOffsets(ctx, topics...)
	}
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask where the topics begin: %w", err)
	}
	return offsets, nil
}

// Poll waits for records. Records of one partition are in order.
func (c *Consumer) Poll(ctx context.Context) ([]*kgo.Record, error) {
	for {
		waiting, cancel := context.WithDeadline(ctx, c.looked.Add(lookInterval))
		fetches := c.client.PollFetches(waiting)
		cancel()
		var got []*kgo.Record
		fetches.EachRecord(func(record *kgo.Record) {
			c.next[record.Topic][record.Partition] = record.Offset + 1
			if !record.Attrs.IsControl() {
				got = append(got, record)
			}
		})
		err := fetches.Err()
		if ctx.Err() != nil {
			return nil, errors.Join(context.Cause(ctx), err)
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("read records: %w", err)
		}
		if time.Since(c.looked) >= lookInterval {
			if err := c.look(ctx); err != nil {
				return got, err
			}
		}
		if len(got) > 0 {
			return got, nil
		}
	}
}

// look finds partitions that have been added to the topics. It ignores brokers that do not
// answer: the reading reports them.
func (c *Consumer) look(ctx context.Context) error {
	c.looked = time.Now()
	topics, err := c.admin.ListTopics(ctx, c.topics...)
	if err != nil {
		return context.Cause(ctx)
	}
	added := map[string]map[int32]kgo.Offset{}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if _, known := c.next[p.Topic][p.Partition]; known || p.Err != nil || c.next[p.Topic] == nil {
			return
		}
		if added[p.Topic] == nil {
			added[p.Topic] = map[int32]kgo.Offset{}
		}
		added[p.Topic][p.Partition], c.next[p.Topic][p.Partition] = kgo.NewOffset().AtStart(), 0
	})
	if len(added) > 0 {
		c.client.AddConsumePartitions(added)
	}
	return nil
}

// Rest reads to the end that the topics have at the time of the call. It stops early,
// without an error, when each returns false.
func (c *Consumer) Rest(ctx context.Context, each func(*kgo.Record) bool) error {
	ends, err := list(ctx, c.admin, c.topics, Start{})
	if err != nil {
		return err
	}
	for !c.reached(ends) {
		got, err := c.Poll(ctx)
		if err != nil {
			return err
		}
		for _, record := range got {
			if !each(record) {
				return nil
			}
		}
	}
	return nil
}

func (c *Consumer) reached(ends kadm.ListedOffsets) bool {
	reached := true
	ends.Each(func(end kadm.ListedOffset) {
		reached = reached && c.next[end.Topic][end.Partition] >= end.Offset
	})
	return reached
}

// Close ends the connections.
func (c *Consumer) Close() { c.client.Close() }
