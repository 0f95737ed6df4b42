package publisher

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// defaultMaxRecordBytes is the brokers' own default of max.message.bytes.
	defaultMaxRecordBytes = 1000012
	// Framing is what a record may take beside key, value and headers' text: 61
	// bytes of batch, up to 30 of record, up to 10 for each header. It leaves
	// room for 40 headers; events have fewer than ten.
	Framing = 512
	// maxBufferedRecords and maxBufferedBytes bound the client's memory. They are
	// above the largest batch, so that handing one over does not wait for the
	// brokers; a larger one does, and nothing is lost by it.
	maxBufferedRecords = 32768
	maxBufferedBytes   = 64 << 20
	// unknownTopicRetries gives a topic that has just been made some ten seconds
	// to be known by all brokers. CheckTopics has looked for it before.
	unknownTopicRetries = 10
)

// Options are what the publishers to Kafka have in common.
type Options struct {
	// Stream is the stream's name, for dead letters.
	Stream string
	// DeadLetters is the topic of what cannot be an event. Without one, a batch
	// with a failure is an error.
	DeadLetters string
	// Compression is none, gzip, snappy, lz4 or zstd; empty means gzip.
	Compression string
	// Linger is how long a partition's records wait for company while a batch is
	// being handed over; its end is sent at once. 0 sends the first records of a
	// batch at once too.
	Linger time.Duration
	// MaxRecordBytes bounds a record before compression, with its framing; 0
	// means 1,000,012, the brokers' default.
	MaxRecordBytes int
	// TopicMaxBytes are the topics' max.message.bytes, from Limits. A topic
	// that is not there has the brokers' default or more.
	TopicMaxBytes map[string]int
	// Observe, if set, is called at the named points of each batch that Idempotent
	// publishes: before_events, after_events (all are acknowledged), before_save,
	// after_save. Transactional has the points of resumetoken.KafkaOptions. It is for tests
	// that end the process at each of them; it is nil in production.
	Observe func(point string)
}

func (o Options) observe(point string) {
	if o.Observe != nil {
		o.Observe(point)
	}
}

// MaxEventBytes is the largest event, as Event.Size counts it, that the topic
// takes.
func (o Options) MaxEventBytes(topic string) int {
	return o.batchBytes(topic) - Framing
}

// batchBytes is the most that a batch of records for the topic may have. The
// brokers' limit holds for batches; one record is the smallest.
func (o Options) batchBytes(topic string) int {
	limit := o.MaxRecordBytes
	if limit == 0 {
		limit = defaultMaxRecordBytes
	}
	if topicLimit, ok := o.TopicMaxBytes[topic]; ok {
		limit = min(limit, topicLimit)
	}
	return limit
}

// producer are the options of the client that produces events.
func (o Options) producer() ([]kgo.Opt, error) {
	codec, err := codec(o.Compression)
	if err != nil {
		return nil, err
	}
	return []kgo.Opt{
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(o.Linger),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 { return int32(o.batchBytes(topic)) }),
		kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.MaxBufferedBytes(max(maxBufferedBytes, 2*o.MaxRecordBytes)),
		kgo.UnknownTopicRetries(unknownTopicRetries),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// As the FHIR server's own client hashes keys, so that a resource's
		// events stay in the partition that they are in now.
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	}, nil
}

func codec(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "none":
		return kgo.NoCompression(), nil
	case "gzip", "":
		// Level 1 costs what lz4 does, and makes less of the same bytes; higher levels make a
		// twentieth less, for two and three times the time.
		return kgo.GzipCompression().WithLevel(1), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, fmt.Errorf("kafka compression %q is not one of none, gzip, snappy, lz4, zstd", name)
}
