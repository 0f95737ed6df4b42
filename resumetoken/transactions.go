package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Transactions commits records that belong to no stream: what is published once
// more on an operator's demand. Nothing of any stream is fenced or moved by it. It is
// for one goroutine.
type Transactions struct {
	kafka *Kafka
}

// TransactionsOptions say as whom Transactions works.
type TransactionsOptions struct {
	// ClientOptions reach the brokers; Extra are options of the producer.
	ClientOptions, Extra []kgo.Opt
	// Name is the installation's name, Work says what for. They make the transactional
	// id "<Name>/<Work>", to which the rights of the installation's streams extend. Of
	// two processes with the same, the one that opens later fences the other.
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

// noTopic is no legal topic: there is no position to go with the records.
const noTopic = "."

// Open connects and takes the transactional id: what a process that had it before has
// not committed by then is aborted, and never will be.
func (t *Transactions) Open(ctx context.Context) error {
	k := t.kafka
	client, err := k.connect()
	if err != nil {
		return err
	}
	k.client, k.introduced = client, make(map[string]bool)
	id, _, err := client.ProducerID(ctx)
	if err == nil && id < 0 {
		err = errors.New("the brokers know no transactions; use delivery: at_least_once")
	}
	if err != nil {
		k.disconnect()
		return fmt.Errorf("take transactional id %q: %w", k.TransactionalID(), k.explain(err))
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
		return fmt.Errorf("commit %d records: %w", len(records), k.explain(err))
	}
	k.live = true
	return nil
}

// LostTransactions tells whether an error of Commit is that another process has opened
// the same transactional id, or that the brokers have ended the transaction after its
// timeout; they do not tell the two apart. Nothing of it was committed.
func LostTransactions(err error) bool { return isFence(err) }

// Close gives up the connection; nothing is pending between two Commits.
func (t *Transactions) Close() { t.kafka.disconnect() }
