package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/fhir-cdc/fhir-cdc/wait"
)

// Commit makes one transaction of records and the position after them. It owns
// the records until it returns nil; after an error they must not be used again,
// since some may still be on their way.
//
// An error that is ErrFenced says that another process owns the stream. After every
// other error, an unknown outcome included, the caller acquires the stream again and
// goes on from the position that Acquire returns.
func (k *Kafka) Commit(ctx context.Context, records []kgo.Record, p Position) error {
	if !k.live {
		return fmt.Errorf("commit to stream %q: %w", k.opts.Stream, errNotAcquired)
	}
	if err := checkForward(k.last, p.order()); err != nil {
		return fmt.Errorf("commit to stream %q: %w", k.opts.Stream, err)
	}
	own, err := k.positionRecords(p)
	if err != nil {
		return fmt.Errorf("commit to stream %q: %w", k.opts.Stream, err)
	}
	k.live = false
	if err := k.transact(ctx, records, own, k.observe); err != nil {
		return fmt.Errorf("commit records (%d) to stream %q: %w", len(records), k.opts.Stream, k.lost(ctx, err))
	}
	k.live = true
	k.offset = own[len(own)-1].Offset
	k.last, k.hour = p.order(), hourOf(p.order())
	return nil
}

// transact runs one transaction. A commit of kgo's commits whatever has been acknowledged,
// so a single failed record must lead to the abort of all.
func (k *Kafka) transact(ctx context.Context, records, own []kgo.Record, observe func(string)) error {
	observe("before_begin")
	if err := k.begin(ctx); err != nil {
		return err
	}
	observe("after_begin")
	err := k.produce(ctx, records, own, observe)
	if err != nil {
		if aborted := k.abort(ctx); aborted != nil {
			return fmt.Errorf("%w (the abort failed too: %v)", err, aborted) //nolint:errorlint // the first error decides; a second cause would only mislead
		}
		return err
	}
	observe("after_flush")
	observe("before_commit")
	// A commit that is cut off has an unknown outcome, so a shutdown waits for
	// its answer; the brokers give none later than the transaction's timeout.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.opts.TransactionTimeout+answerMargin)
	defer cancel()
	if err := k.commit(end); err != nil {
		return err
	}
	observe("after_commit")
	return nil
}

// produce hands over all records and waits until each is acknowledged.
func (k *Kafka) produce(ctx context.Context, records, own []kgo.Record, observe func(string)) error {
	if err := k.introduceAll(ctx, records); err != nil {
		return err
	}
	if err := k.introduceAll(ctx, own); err != nil {
		return err
	}
	return deliver(ctx, k.client, func(d *delivery) {
		d.produce(records)
		observe("after_produce")
		d.produce(own)
		observe("after_position")
	})
}

// abort ends the transaction without committing, so that it does not hold up
// consumers until its timeout.
func (k *Kafka) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if err := k.client.AbortBufferedRecords(ctx); err != nil {
		return fmt.Errorf("wait for records on their way: %w", err)
	}
	if err := k.client.EndTransaction(ctx, kgo.TryAbort); err != nil {
		return fmt.Errorf("abort transaction: %w", err)
	}
	return nil
}

// isFence tells whether the brokers refused a transaction because of its epoch
// or state: a successor has the id, or the coordinator has ended the transaction
// after its timeout. The codes do not tell the two apart.
func isFence(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) ||
		errors.Is(err, kerr.InvalidProducerEpoch) ||
		errors.Is(err, kerr.InvalidProducerIDMapping) ||
		errors.Is(err, kerr.InvalidTxnState) ||
		errors.Is(err, kerr.TransactionAbortable)
}

// lost finds out why a transaction failed: it returns ErrFenced if another process
// has claimed the stream since this one's last commit, else the error itself.
// Without ErrFenced this process would take the stream back from its rightful owner, and
// the two would take it from each other for ever.
func (k *Kafka) lost(ctx context.Context, cause error) error {
	if !isFence(cause) {
		return cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.opts.TransactionTimeout+answerMargin)
	defer cancel()
	// A successor claims right after it has fenced; it gets a little time.
	for deadline := time.Now().Add(k.successorWait); ; {
		claim, err := k.claimSince(ctx, k.offset)
		switch {
		case err == nil && claim.Nonce != k.nonce:
			return fmt.Errorf("%w: %q since %s: %w", ErrFenced, claim.Instance, claim.StartedAt.Format(time.RFC3339), cause)
		case err != nil && !errors.Is(err, ErrNone):
			return fmt.Errorf("%w (who owns the stream could not be read: %v)", cause, err) //nolint:errorlint // the first error decides; a second cause would only mislead
		case time.Now().After(deadline):
			return fmt.Errorf("%w (nobody else owns the stream: the brokers ended the transaction)", cause)
		}
		if wait.Sleep(ctx, claimPoll) != nil {
			return cause
		}
	}
}

const (
	// requestRetry is how long the client repeats a request that gets no answer; it is
	// kgo's default.
	requestRetry = 30 * time.Second
	// noRetry is too short for any repetition; 0 would mean for ever.
	noRetry = time.Nanosecond
)

// retryTimeout is how long the client may repeat a request whose connection broke or whose
// answer did not come. The client repeats it inside one call, which does not report it.
//
// With transaction.version 1 an EndTxn must not be repeated like that (KAFKA-17754): the
// epoch stays the same from one transaction to the next, so a delayed first copy would end
// the next transaction in its middle. So a lost EndTxn is an error of the call. Acquire,
// whose InitProducerID raises the epoch, then makes the brokers refuse the delayed copy
// before it reads the committed position. An EndTxn that the brokers have answered cannot
// be delayed any more: after CONCURRENT_TRANSACTIONS the client still asks again.
//
// The other requests of a transaction may be repeated:
//
//   - A late AddPartitionsToTxn can only begin a transaction without records. The next
//     transaction has the same epoch and joins it; or the brokers end it after its timeout
//     and refuse the next commit, which is then made again.
//   - A late Produce has its sequence number: the brokers have these records, and do not
//     append them again. Records of a transaction that was aborted meanwhile are refused,
//     because their partition is in no open transaction (brokers from 3.6 on check that:
//     transaction.partition.verification.enable), and from the next Acquire on for their epoch.
//   - A late InitProducerID ends the open transaction. Its commit fails; nobody else has
//     claimed the stream, so this process acquires it again.
func (k *Kafka) retryTimeout(key int16) time.Duration {
	if key == int16(kmsg.EndTxn) && !k.repeatable.Load() {
		return noRetry
	}
	return requestRetry
}

// epoch is the producer id and epoch by which the brokers fence.
type epoch struct {
	id     int64
	number int16
}

func (k *Kafka) epoch(ctx context.Context) (epoch, error) {
	id, number, err := k.client.ProducerID(ctx)
	if err != nil {
		return epoch{}, fmt.Errorf("take the producer's epoch: %w", err)
	}
	return epoch{id, number}, nil
}

func (k *Kafka) begin(ctx context.Context) error {
	err := k.client.BeginTransaction()
	if err == nil {
		k.begun, err = k.epoch(ctx)
	}
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	return nil
}

// commit commits the transaction. From transaction.version 2 on the answer has the epoch of
// the next transaction, so the brokers refuse late requests of this one. The client may
// repeat an EndTxn only if the epoch has risen with the commit before.
//
// If the epoch has risen since begin, the client took a new one in the middle of the
// transaction by itself, as it does when a partition has forgotten the producer. That
// aborted the records acknowledged before.
func (k *Kafka) commit(ctx context.Context) error {
	before, err := k.epoch(ctx)
	if err == nil && before != k.begun {
		err = errors.New("the client has begun it anew")
	}
	if err == nil {
		err = k.client.EndTransaction(ctx, kgo.TryCommit)
	}
	if err != nil {
		return fmt.Errorf("end transaction (whether it was committed is not known): %w", err)
	}
	after, err := k.epoch(ctx)
	k.repeatable.Store(err == nil && after != before)
	return nil
}

// partitionOf is the partition of the position topic that a stream belongs to: the
// murmur2 hash of its key there (Kafka.TransactionalID) over the number of
// partitions, as every Kafka client hashes a key. The assignment of streams to
// replicas goes by it too.
func partitionOf(key string, partitions int) int32 {
	keyed := kgo.StickyKeyPartitioner(nil).ForTopic("")
	return int32(keyed.Partition(&kgo.Record{Key: []byte(key)}, partitions))
}

// The partition of a probe, before and after the partitioner has refused it.
const (
	probing int32 = -1
	probed  int32 = -2
)

// introduce makes the client learn the partitions of a topic before the first record of a
// transaction goes there.
//
// The client (kgo v1.22.2) hands the first records of a topic to the partitions
// that it has just learned, and only then adds these to the list that EndTransaction
// checks. If all records are acknowledged in between, EndTransaction finds no produced
// record: it aborts, and reports success. A probe takes the same way, but the partitioner
// refuses it, so it is never sent; the list is complete for all records after it.
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
// partition, so that one reading of it finds them in order. It refuses the probes of
// introduce.
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

// RequiresConsistency implements kgo.TopicPartitioner. It is true for probes, so that
// they do not wait for a writable partition.
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

// Deliver hands records to a client and waits until the brokers have acknowledged each,
// or until the first failure. It sends nothing after a failure, since a position must
// never move past a missing record.
//
// After an error records may still be buffered or on their way. They must not be
// used again, and the caller should abort them in the client.
func Deliver(ctx context.Context, client *kgo.Client, records []kgo.Record) error {
	return deliver(ctx, client, func(d *delivery) { d.produce(records) })
}

// deliver waits for all records that produce hands over.
func deliver(ctx context.Context, client *kgo.Client, produce func(*delivery)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &delivery{ctx: ctx, client: client, giveUp: cancel}
	d.promise = d.done
	produce(d)
	if err := client.Flush(ctx); err != nil {
		if first := d.failure(); first != nil {
			return first
		}
		return fmt.Errorf("wait for acknowledgements: %w", err)
	}
	// The flush does not cover records that were refused before being buffered.
	d.pending.Wait()
	return d.failure()
}

// delivery follows records to their acknowledgements.
type delivery struct {
	ctx     context.Context //nolint:containedctx // a delivery lives within one call of deliver
	client  *kgo.Client
	giveUp  context.CancelFunc
	promise func(*kgo.Record, error) // done, made once and not for each record
	pending sync.WaitGroup

	mu  sync.Mutex
	err error // the first failure
}

func (d *delivery) produce(records []kgo.Record) {
	for i := range records {
		if err := d.ctx.Err(); err != nil {
			d.fail(fmt.Errorf("hand over records: %w", err))
			return
		}
		d.pending.Add(1)
		d.client.Produce(d.ctx, &records[i], d.promise)
	}
}

func (d *delivery) done(r *kgo.Record, err error) {
	if err != nil {
		d.fail(fmt.Errorf("record of %d bytes for topic %s: %w", len(r.Key)+len(r.Value), r.Topic, err))
	}
	d.pending.Done()
}

func (d *delivery) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		d.giveUp()
	}
}

func (d *delivery) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Transactions commits records that belong to no stream: events that an operator has
// published once more. It fences and moves no stream. It is for one goroutine.
type Transactions struct {
	kafka *Kafka
}

// TransactionsOptions say as whom Transactions works.
type TransactionsOptions struct {
	// ClientOptions reach the brokers; Extra are options of the producer.
	ClientOptions, Extra []kgo.Opt
	// Name is the installation's name, Work the purpose. They make the transactional
	// id "<Name>/<Work>", which the rights of the installation's streams cover. Of two
	// processes with the same id, the one that opens later fences the other.
	Name, Work string
	// Timeout is how long the brokers keep a transaction of a process that has died.
	Timeout time.Duration
}

// NewTransactions checks the options; it connects to nothing.
func NewTransactions(opts TransactionsOptions) (*Transactions, error) {
	k, err := NewKafka(KafkaOptions{
		ClientOptions: opts.ClientOptions, Extra: opts.Extra, TransactionTimeout: opts.Timeout,
		Name: opts.Name, Stream: opts.Work, Topic: noTopic,
	})
	if err != nil {
		return nil, err
	}
	return &Transactions{kafka: k}, nil
}

// noTopic is not a legal topic name: Transactions stores no position.
const noTopic = "."

// Open connects and takes the transactional id. The brokers abort the open transaction of a
// process that had the id before; its records never become committed.
func (t *Transactions) Open(ctx context.Context) error {
	k := t.kafka
	if err := k.fence(ctx); err != nil {
		k.disconnect()
		return k.explain(err)
	}
	k.live = true
	return nil
}

// Commit makes one transaction of records and waits for its end. It owns the records
// until it returns nil. After an error nothing more is accepted; whether the records
// were committed may then not be known.
func (t *Transactions) Commit(ctx context.Context, records []kgo.Record) error {
	k := t.kafka
	if !k.live {
		return errors.New("commit records: no more after an error")
	}
	k.live = false
	if err := k.transact(ctx, records, nil, func(string) {}); err != nil {
		return fmt.Errorf("commit records (%d): %w", len(records), k.explain(err))
	}
	k.live = true
	return nil
}

// LostTransactions tells whether Commit failed because another process has opened the same
// transactional id, or because the brokers have ended the transaction after its timeout;
// the error codes do not tell the two apart. Nothing of the transaction was committed.
func LostTransactions(err error) bool { return isFence(err) }

// Close gives up the connection; nothing is pending between two Commits.
func (t *Transactions) Close() { t.kafka.disconnect() }
