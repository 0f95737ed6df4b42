package resumetoken

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// PartitionOf is the partition of the position topic that a stream belongs to: the
// murmur2 hash of its key there (Kafka.TransactionalID) over the number of
// partitions, as every Kafka client hashes a key. The assignment of streams to
// replicas goes by it too.
func PartitionOf(key string, partitions int) int32 {
	keyed := kgo.StickyKeyPartitioner(nil).ForTopic("")
	return int32(keyed.Partition(&kgo.Record{Key: []byte(key)}, partitions))
}

// The partition that a probe asks for, and what it has once it has been refused.
const (
	probing int32 = -1
	probed  int32 = -2
)

// introduce has the client learn the partitions of a topic before a record of a
// transaction is for it.
//
// The client (kgo v1.22.2) hands the first records of a topic to the partitions
// that it has just learned, and only then takes these into the list that the end
// of a transaction goes through. If all is acknowledged in between, the end finds
// that nothing was produced: it aborts, and reports success. A probe goes the same
// way but is refused by the partitioner, so it is never sent; whatever is produced
// after it finds the list complete.
func (k *Kafka) introduce(ctx context.Context, topic string) error {
	if k.introduced[topic] {
		return nil
	}
	probe := &kgo.Record{Topic: topic, Partition: probing}
	refused := make(chan error, 1)
	k.client.Produce(ctx, probe, func(_ *kgo.Record, err error) { refused <- err })
	if err := <-refused; probe.Partition != probed {
		return fmt.Errorf("look up topic %s: %w", topic, err)
	}
	k.introduced[topic] = true
	return nil
}

// introduceAll introduces the topics of records.
func (k *Kafka) introduceAll(ctx context.Context, records []kgo.Record) error {
	last := ""
	for i := range records {
		if topic := records[i].Topic; topic != last { // most follow one of the same topic
			if err := k.introduce(ctx, topic); err != nil {
				return err
			}
			last = topic
		}
	}
	return nil
}

// partitioner hashes keys as the Java and Node clients do, except in the position
// topic: there a stream's records have different keys and must share the stream's
// partition, so that one reading of it finds them in order. It refuses probes.
type partitioner struct {
	positions string
}

// ForTopic implements kgo.Partitioner.
func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == p.positions {
		return refusing{kgo.ManualPartitioner().ForTopic(topic)}
	}
	return refusing{kgo.StickyKeyPartitioner(nil).ForTopic(topic)}
}

type refusing struct {
	kgo.TopicPartitioner
}

// RequiresConsistency implements kgo.TopicPartitioner. Probes do, since they need
// no partition that can be written to.
func (r refusing) RequiresConsistency(record *kgo.Record) bool {
	return record.Partition == probing || r.TopicPartitioner.RequiresConsistency(record)
}

// Partition implements kgo.TopicPartitioner.
func (r refusing) Partition(record *kgo.Record, n int) int {
	if record.Partition == probing {
		record.Partition = probed
		return -1
	}
	return r.TopicPartitioner.Partition(record, n)
}

// OnNewBatch implements kgo.TopicPartitionerOnNewBatch, for records without a key.
func (r refusing) OnNewBatch() {
	if p, ok := r.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch); ok {
		p.OnNewBatch()
	}
}
