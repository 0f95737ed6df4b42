package resumetoken

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync/atomic"
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
	// compression and size limits of the records committed with the positions.
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
	// that has died, unless a successor ends it earlier. The brokers refuse more than
	// their transaction.max.timeout.ms. 0 means 30 s.
	TransactionTimeout time.Duration
	// Log may be nil.
	Log *zap.Logger
	// Reader is a client for reading while the stream is not acquired; if it is nil, each
	// reading makes one.
	Reader *kgo.Client
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
// The stream's transactional id fences: Acquire gives it a new epoch, and from then
// on the brokers refuse whatever a predecessor still sends. Acquire reads the position
// only after that, so nothing can be committed behind it. Before reading it writes a claim
// record, from which a fenced predecessor learns who its successor is.
//
// After any error of Commit or Save the outcome is unknown, and both refuse everything
// until Acquire has read the committed position. A Kafka is for one goroutine.
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
	// offset is the offset of this process's newest committed record in the position
	// topic. A successor's claim can only come after it.
	offset int64
	last   bson.Timestamp
	hour   time.Time // of the newest record of the history; zero: none
	// repeatable says that an EndTxn may be sent again; see retryTimeout.
	repeatable atomic.Bool
	begun      epoch // the open transaction's
	// hangMargin and successorWait are fields so that tests need not wait long.
	hangMargin    time.Duration
	successorWait time.Duration
}

const (
	defaultTransactionTimeout = 30 * time.Second
	// answerMargin is how long after a transaction's timeout the brokers may still
	// answer about it.
	answerMargin = 10 * time.Second
	// abortTimeout bounds the abort of a failed transaction. If it fails, the next
	// Acquire or the brokers' timeout ends the transaction.
	abortTimeout = 10 * time.Second
	// transactionBackoff is the pause before asking again while the coordinator
	// completes the previous transaction. The client's own 20 ms would be most of
	// a small transaction's time; the completion takes 2 to 5 ms.
	transactionBackoff = 2 * time.Millisecond
)

// The names exclude the characters that separate them from the rest of a key: the
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
// of two processes that acquire at the same time the later one wins, and the next
// Commit of the other fails with ErrFenced.
func (k *Kafka) Acquire(ctx context.Context) (Position, error) {
	k.disconnect()
	started := time.Now()
	p, err := k.acquire(ctx)
	if err != nil && !errors.Is(err, ErrNone) {
		k.disconnect()
		return Position{}, fmt.Errorf("acquire stream %q: %w", k.opts.Stream, k.explain(err))
	}
	k.live = true
	fields := []zap.Field{zap.String("stream", k.opts.Stream), zap.Int32("partition", k.partition), zap.Bool("position", err == nil)}
	if err == nil {
		fields = append(fields, zap.String("clusterTime", fmt.Sprintf("%d,%d", p.order().T, p.order().I)))
	}
	k.log.Info("stream acquired", append(fields, zap.Duration("took", time.Since(started)))...)
	return p, err
}

func (k *Kafka) acquire(ctx context.Context) (Position, error) {
	if err := k.fence(ctx); err != nil {
		return Position{}, err
	}
	k.observe("after_fence")
	topic, err := describeTopic(ctx, k.client, k.opts.Topic)
	if err != nil {
		return Position{}, err
	}
	k.partition = partitionOf(k.TransactionalID(), topic.partitions())
	if err := k.claim(ctx); err != nil {
		return Position{}, err
	}
	k.observe("after_claim")
	p, err := k.readPosition(ctx, topic)
	k.observe("after_read")
	k.last, k.hour = forwardFrom(p), hourOf(p.order())
	return p, err
}

// fence connects and takes the transactional id: the brokers end a predecessor's open
// transaction, and refuse the predecessor's epoch from then on.
func (k *Kafka) fence(ctx context.Context) error {
	client, err := k.connect()
	if err != nil {
		return err
	}
	k.client, k.introduced = client, make(map[string]bool)
	k.repeatable.Store(false)
	id, _, err := client.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("take transactional id %q: %w", k.TransactionalID(), err)
	}
	if id < 0 {
		return errors.New("the brokers know no transactions; use delivery: at_least_once and another checkpoint.store")
	}
	return nil
}

// connect makes the client of the transactions. The options that the transactions rest
// on come last, so that no option given from outside overrides them.
func (k *Kafka) connect() (*kgo.Client, error) {
	own := []kgo.Opt{
		kgo.TransactionalID(k.TransactionalID()),
		kgo.TransactionTimeout(k.opts.TransactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ConcurrentTransactionsBackoff(transactionBackoff),
		kgo.RetryTimeoutFn(k.retryTimeout),
		kgo.RecordPartitioner(partitioner{positions: k.opts.Topic}),
	}
	opts := slices.Concat(k.opts.ClientOptions, k.opts.Extra, own)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("configure kafka client: %w", err)
	}
	return client, nil
}

// claim records this process as the stream's owner, in a transaction of its own.
func (k *Kafka) claim(ctx context.Context) error {
	k.nonce, k.claimed = rand.Text(), time.Now().UTC()
	value, err := claim{Instance: k.opts.Instance, Nonce: k.nonce, StartedAt: k.claimed}.encode()
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

// Save implements Store, with a transaction that holds only the position.
func (k *Kafka) Save(ctx context.Context, p Position) error {
	return k.Commit(ctx, nil, p)
}

// Close implements Store. It only records the orderly end: between two calls of Commit
// there is nothing to commit.
func (k *Kafka) Close(ctx context.Context) error {
	if k.live {
		k.live = false
		if err := k.release(ctx); err != nil {
			// A successor does not need the note.
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

// record makes a record for the stream's partition of the position topic. A nil value
// deletes the key.
func (k *Kafka) record(key string, value []byte) kgo.Record {
	return kgo.Record{Topic: k.opts.Topic, Partition: k.partition, Key: []byte(key), Value: value}
}

// explain adds a hint for the operator to refusals of the brokers.
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

// claimPoll is the pause between two readings of the claim.
const claimPoll = 200 * time.Millisecond

// claim is the record of the process that acquired a stream last.
type claim struct {
	// Instance names the process, as its configuration does.
	Instance string `json:"instance"`
	// Nonce is different for every Acquire, so that a process knows its own.
	Nonce string `json:"nonce"`
	// StartedAt is the process's clock when it acquired, for people.
	StartedAt time.Time `json:"startedAt"`
	// StoppedAt is its clock at an orderly end, for people and for commands that must not
	// touch a running stream.
	StoppedAt *time.Time `json:"stoppedAt,omitempty"`
}

func claimKey(stream string) string { return stream + "#owner" }

func (c claim) encode() ([]byte, error) {
	value, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode claim: %w", err)
	}
	return value, nil
}

func decodeClaim(value []byte) (claim, error) {
	var c claim
	if err := json.Unmarshal(value, &c); err != nil {
		return claim{}, fmt.Errorf("decode claim of %d bytes: %w", len(value), err)
	}
	return c, nil
}

// claimSince reads the newest committed claim at or after an offset of the
// stream's partition. It does not wait for open transactions: another process that
// claims the stream has ended this stream's open transaction before.
func (k *Kafka) claimSince(ctx context.Context, offset int64) (c claim, err error) {
	err = k.withReadable(ctx, func(topic *topicLog, partition int32, start, end int64) error {
		record, err := topic.lastBefore(ctx, partition, max(start, offset), end, claimKey(k.TransactionalID()))
		if err != nil {
			return err
		}
		c, err = decodeClaim(record.Value)
		return err
	})
	return c, err
}

// withTopic calls fn with the position topic and the stream's partition of it. It uses
// the store's client, or else the Reader, or else a client for this one call.
func (k *Kafka) withTopic(ctx context.Context, fn func(*topicLog, int32) error) error {
	client := cmp.Or(k.client, k.opts.Reader)
	if client == nil {
		var err error
		if client, err = kgo.NewClient(k.opts.ClientOptions...); err != nil {
			return fmt.Errorf("configure kafka client: %w", err)
		}
		defer client.Close()
	}
	topic, err := describeTopic(ctx, client, k.opts.Topic)
	if err != nil {
		return err
	}
	partition := k.partition
	if k.client == nil {
		partition = partitionOf(k.TransactionalID(), topic.partitions())
	}
	return fn(topic, partition)
}

// withReadable is withTopic with the range of the partition that can be read without a wait for
// open transactions.
func (k *Kafka) withReadable(ctx context.Context, fn func(topic *topicLog, partition int32, start, end int64) error) error {
	return k.withTopic(ctx, func(topic *topicLog, partition int32) error {
		start, err := topic.start(ctx, partition)
		if err != nil {
			return err
		}
		end, err := topic.committed(ctx, partition)
		if err != nil {
			return err
		}
		return fn(topic, partition, start, end)
	})
}

// hangLimit is how long any transaction in the position topic may stay open. It assumes
// that all installations that share the topic have the same timeout.
func (k *Kafka) hangLimit() time.Duration { return k.opts.TransactionTimeout + k.hangMargin }

// readPosition reads the last committed position of the stream. This process's
// claim is the newest record that matters: behind it nobody else can commit.
func (k *Kafka) readPosition(ctx context.Context, topic *topicLog) (Position, error) {
	if err := topic.waitStable(ctx, k.partition, k.offset+1, k.hangLimit()); err != nil {
		return Position{}, err
	}
	if err := k.checkClaim(ctx, topic); err != nil {
		return Position{}, err
	}
	start, err := topic.start(ctx, k.partition)
	if err != nil {
		return Position{}, err
	}
	record, err := k.lastPosition(ctx, topic, k.partition, start, k.offset)
	if err != nil {
		return Position{}, err
	}
	return Decode(record.Value)
}

// lastPosition finds the record of the stream's position, elsewhere too if its own partition has
// none. A deleted position is not looked for elsewhere: the stream is to start anew.
func (k *Kafka) lastPosition(ctx context.Context, topic *topicLog, own int32, start, end int64) (*kgo.Record, error) {
	record, err := topic.lastBefore(ctx, own, start, end, k.TransactionalID())
	if errors.Is(err, ErrNone) && !errors.Is(err, ErrDeleted) {
		return k.readElsewhere(ctx, topic, own)
	}
	return record, err
}

// checkClaim makes sure that this process's claim has been committed. The fencing rests
// on it, and the check is one small reading.
func (k *Kafka) checkClaim(ctx context.Context, topic *topicLog) error {
	record, err := topic.lastBefore(ctx, k.partition, k.offset, k.offset+1, claimKey(k.TransactionalID()))
	if errors.Is(err, ErrNone) {
		return errors.New("the claim was not committed although the brokers acknowledged it")
	}
	if err != nil {
		return err
	}
	claim, err := decodeClaim(record.Value)
	if err != nil {
		return err
	}
	if claim.Nonce != k.nonce {
		return fmt.Errorf("at the claim's offset is another one: %q since %s", claim.Instance, claim.StartedAt.Format(time.RFC3339))
	}
	return nil
}

// readElsewhere looks for the stream's position in the partitions that are not its
// own. The position is there if the topic has been given more partitions since. To miss
// it would be to start the stream anew and skip changes.
func (k *Kafka) readElsewhere(ctx context.Context, topic *topicLog, own int32) (*kgo.Record, error) {
	var found *kgo.Record
	var newest bson.Timestamp
	for partition := range int32(topic.partitions()) {
		if partition == own {
			continue
		}
		start, end, err := topic.stable(ctx, partition, k.hangLimit())
		if err != nil {
			return nil, err
		}
		record, err := topic.lastBefore(ctx, partition, start, end, k.TransactionalID())
		if errors.Is(err, ErrNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p, err := Decode(record.Value)
		if err != nil {
			return nil, err
		}
		if found == nil || p.order().After(newest) {
			found, newest = record, p.order()
		}
	}
	if found == nil {
		return nil, ErrNone
	}
	return found, nil
}
