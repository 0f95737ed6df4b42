package resumetoken

import "github.com/twmb/franz-go/pkg/kgo"

// PartitionOf is the partition of the position topic that a stream belongs to:
// its name's murmur2 hash over the number of partitions, as every Kafka client
// hashes a key. The assignment of streams to replicas goes by it too.
func PartitionOf(stream string, partitions int) int32 {
	keyed := kgo.StickyKeyPartitioner(nil).ForTopic("")
	return int32(keyed.Partition(&kgo.Record{Key: []byte(stream)}, partitions))
}

// partitioner hashes keys as the Java and Node clients do, except in the position
// topic: there a stream's records have different keys and must share the stream's
// partition, so that one reading of it finds them in order.
type partitioner struct {
	positions string
}

// ForTopic implements kgo.Partitioner.
func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == p.positions {
		return kgo.ManualPartitioner().ForTopic(topic)
	}
	return kgo.StickyKeyPartitioner(nil).ForTopic(topic)
}
