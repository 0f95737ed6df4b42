package resumetoken

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"
)

// KafkaOptions says where and as whom a Kafka store works.
type KafkaOptions struct {
	// ClientOptions reach the brokers: addresses, TLS, SASL, client id, logger.
	ClientOptions []kgo.Opt
	// Extra are options for the producer of the transactions only, such as
	// compression and size limits of the records that go with the positions.
	Extra []kgo.Opt
	// Topic is the position topic. It must exist and be compacted.
	Topic string
	// Name is the installation's name: letters, digits, dots, dashes and
	// underscores. It and Stream make the transactional id "<Name>/<Stream>", so
	// two installations must not share both.
	Name string
	// Stream is the stream's name: letters, digits, dots, dashes, underscores
	// and slashes.
	Stream string
	// Instance names this process in the topic, for people.
	Instance string
	// TransactionTimeout is how long the brokers keep a transaction of a process
	// that has died, when no successor ends it earlier. It must not be above the
	// brokers' transaction.max.timeout.ms. 0 means 30 s.
	TransactionTimeout time.Duration
	// Log may be nil.
	Log *zap.Logger
	// Observe, if set, is called at the named points of Acquire: after_fence (the
	// predecessor is shut out), after_claim, after_read; and of every transaction:
	// before_begin, after_begin, after_produce (the records are buffered),
	// after_position, after_flush, before_commit, after_commit. It is there for
	// tests that end the process at each of them; it is nil in production.
	Observe func(point string)
}

// Kafka keeps a stream's position in a compacted topic, and commits it in one
// transaction with other records: the home that makes exactly-once possible.
//
// The stream's transactional id fences: Acquire gives it a new epoch, from which
// on the brokers refuse whatever a predecessor still sends. Only then is the
// position read, so nothing can be committed behind it. A claim record, written
// before the reading, tells a process that has been shut out by whom.
//
// After any error of Commit or Save the outcome is unknown, and everything is
// refused until Acquire has read what really was committed. A Kafka is for one
// goroutine.
type Kafka struct {
	opts   KafkaOptions
	log    *zap.Logger
	client *kgo.Client // nil before Acquire and after Close
	// live is true while the last transaction is known to be committed.
	live      bool
	partition int32
	nonce     string
	claimed   time.Time
	// introduced are the topics whose partitions the client knows.
	introduced map[string]bool
	// offset is that of this process's newest committed record in the position
	// topic. Nobody else can have claimed the stream before it.
	offset int64
	last   bson.Timestamp
	hour   time.Time // of the newest record of the history; zero: none
	// hangMargin and successorWait are fields so that tests need not wait long.
	hangMargin    time.Duration
	successorWait time.Duration
}

const (
	defaultTransactionTimeout = 30 * time.Second
	// answerMargin is how much later than a transaction's timeout the brokers'
	// last answer about it is waited for.
	answerMargin = 10 * time.Second
	// abortTimeout bounds the clean-up of a failed transaction. What it does not
	// manage, the next Acquire or the brokers' timeout does.
	abortTimeout = 10 * time.Second
	// transactionBackoff is the pause before asking again while the coordinator
	// completes the previous transaction. The client's own 20 ms would be most of
	// a small transaction's time; the completion takes 2 to 5 ms.
	transactionBackoff = 2 * time.Millisecond
)

// The names leave out the characters that part them from the rest of a key: the
// slash after the installation, # and @ after the stream.
var (
	installationName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,100}$`)
	streamName       = regexp.MustCompile(`^[a-zA-Z0-9._/-]{1,200}$`)
)

// NewKafka checks the options; it connects to nothing.
func NewKafka(opts KafkaOptions) (*Kafka, error) {
	switch {
	case opts.Topic == "":
		return nil, errors.New("kafka position store: no topic given")
	case !installationName.MatchString(opts.Name):
		return nil, fmt.Errorf("kafka position store: installation name %q is not made of 1 to 100 of a-z A-Z 0-9 . _ -", opts.Name)
	case !streamName.MatchString(opts.Stream):
		return nil, fmt.Errorf("kafka position store: stream name %q is not made of 1 to 200 of a-z A-Z 0-9 . _ / -", opts.Stream)
	}
	if opts.TransactionTimeout == 0 {
		opts.TransactionTimeout = defaultTransactionTimeout
	}
	log := opts.Log
	if log == nil {
		log = zap.NewNop()
	}
	return &Kafka{opts: opts, log: log, hangMargin: answerMargin, successorWait: 2 * time.Second}, nil
}

// TransactionalID is "<Name>/<Stream>", for permissions and for the tools that show
// transactions. It is also the key of the stream's records in the position topic,
// so that installations can share the topic.
func (k *Kafka) TransactionalID() string { return k.opts.Name + "/" + k.opts.Stream }

// Acquire implements Store. It makes a new client each time, takes the
// transactional id (which ends a predecessor's open transaction at once), claims
// the stream and reads the last committed position. It never returns ErrFenced:
// of two processes that acquire at the same time one succeeds last, and the
// other learns of it from its next Commit.
func (k *Kafka) Acquire(ctx context.Context) (Position, error) {
	k.disconnect()
	started := time.Now()
	p, err := k.acquire(ctx)
	if err != nil && !errors.Is(err, ErrNone) {
		k.disconnect()
		return Position{}, fmt.Errorf("acquire stream %q: %w", k.opts.Stream, k.explain(err))
	}
	k.live = true
	k.log.Info("stream acquired",
		zap.String("stream", k.opts.Stream), zap.Int32("partition", k.partition),
		zap.Bool("position", err == nil), zap.Uint32("clusterTime", p.ClusterTime.T),
		zap.Duration("took", time.Since(started)))
	return p, err
}

func (k *Kafka) acquire(ctx context.Context) (Position, error) {
	client, err := k.connect()
	if err != nil {
		return Position{}, err
	}
	k.client, k.introduced = client, make(map[string]bool)
	id, _, err := client.ProducerID(ctx)
	if err != nil {
		return Position{}, fmt.Errorf("take transactional id %q: %w", k.TransactionalID(), err)
	}
	if id < 0 {
		return Position{}, errors.New("the brokers know no transactions; use delivery: at_least_once and another checkpoint.store")
	}
	k.observe("after_fence")
	topic, err := describeTopic(ctx, client, k.opts.Topic)
	if err != nil {
		return Position{}, err
	}
	k.partition = PartitionOf(k.TransactionalID(), topic.partitions())
	if err := k.claim(ctx); err != nil {
		return Position{}, err
	}
	k.observe("after_claim")
	p, err := k.readPosition(ctx, topic)
	k.observe("after_read")
	k.last, k.hour = forwardFrom(p), hourOf(p.ClusterTime)
	return p, err
}

// connect makes the client of the transactions. What the transactions rest on
// comes last, so that no option given from outside takes its place.
func (k *Kafka) connect() (*kgo.Client, error) {
	own := []kgo.Opt{
		kgo.TransactionalID(k.TransactionalID()),
		kgo.TransactionTimeout(k.opts.TransactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ConcurrentTransactionsBackoff(transactionBackoff),
		kgo.RecordPartitioner(partitioner{positions: k.opts.Topic}),
	}
	opts := append(append(append([]kgo.Opt{}, k.opts.ClientOptions...), k.opts.Extra...), own...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	return client, nil
}

// claim writes, in a transaction of its own, who has the stream from now on.
func (k *Kafka) claim(ctx context.Context) error {
	k.nonce, k.claimed = rand.Text(), time.Now().UTC()
	value, err := Claim{Instance: k.opts.Instance, Nonce: k.nonce, StartedAt: k.claimed}.encode()
	if err != nil {
		return err
	}
	own := []kgo.Record{k.record(claimKey(k.TransactionalID()), value)}
	if err := k.transact(ctx, nil, own, func(string) {}); err != nil {
		return fmt.Errorf("claim in topic %s: %w", k.opts.Topic, err)
	}
	k.offset = own[0].Offset
	return nil
}

// Save implements Store: a transaction that holds nothing but the position.
func (k *Kafka) Save(ctx context.Context, p Position) error {
	return k.Commit(ctx, nil, p)
}

// Close implements Store. Between two calls of Commit there is nothing to commit;
// what is written is only that the stream was given up in order.
func (k *Kafka) Close(ctx context.Context) error {
	if k.live {
		k.live = false
		if err := k.release(ctx); err != nil {
			// The successor needs no word of it.
			k.log.Debug("could not note the stream's end", zap.String("stream", k.opts.Stream), zap.Error(err))
		}
	}
	k.disconnect()
	return nil
}

func (k *Kafka) disconnect() {
	if k.client != nil {
		k.client.Close()
	}
	k.client, k.live = nil, false
}

func (k *Kafka) observe(point string) {
	if k.opts.Observe != nil {
		k.opts.Observe(point)
	}
}

// record is one for the stream's partition of the position topic; a nil value
// deletes the key.
func (k *Kafka) record(key string, value []byte) kgo.Record {
	return kgo.Record{Topic: k.opts.Topic, Partition: k.partition, Key: []byte(key), Value: value}
}

// explain adds to the brokers' refusals what the operator can do about them.
func (k *Kafka) explain(err error) error {
	hint := ""
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		hint = fmt.Sprintf("the user needs Write and Describe on transactional id %q", k.TransactionalID())
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		hint = fmt.Sprintf("the user needs Read, Write and Describe on topic %s", k.opts.Topic)
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		hint = fmt.Sprintf("kafka.transaction_timeout %s is above the brokers' transaction.max.timeout.ms", k.opts.TransactionTimeout)
	case errors.Is(err, kerr.CoordinatorNotAvailable):
		hint = "the brokers have no transaction coordinator yet; with fewer than three brokers they need transaction.state.log.replication.factor and transaction.state.log.min.isr of 1"
	case isFence(err):
		hint = "another process acquires the stream at the same time, or the brokers ended the transaction after its timeout"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
