package publisher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Detached publishes events beside the streams: what an operator has published once
// more. No position moves, and no stream is disturbed. A batch is one transaction, or
// with delivery at_least_once it waits for the brokers' acknowledgements.
//
// It is fail-stop, and not for more than one goroutine.
type Detached struct {
	opts         Options
	buffer       recordBuffer
	transactions *resumetoken.Transactions // nil: at_least_once
	client       []kgo.Opt
	producer     *kgo.Client
}

// DetachedOptions say how Detached works.
type DetachedOptions struct {
	Options
	// Client reaches the brokers.
	Client []kgo.Opt
	// Transactions makes one transaction of each batch, with the id "<Name>/<Work>". Of
	// two processes with the same, the one that opens later fences the other.
	Transactions bool
	Name, Work   string
	// TransactionTimeout is how long the brokers keep a transaction of a process that
	// has died.
	TransactionTimeout time.Duration
}

// NewDetached checks the options; it connects to nothing.
func NewDetached(opts DetachedOptions) (*Detached, error) {
	producer, err := opts.producer()
	if err != nil {
		return nil, err
	}
	d := &Detached{opts: opts.Options, client: slices.Concat(opts.Client, producer)}
	if opts.Transactions {
		d.transactions, err = resumetoken.NewTransactions(resumetoken.TransactionsOptions{
			ClientOptions: opts.Client, Extra: producer, Name: opts.Name, Work: opts.Work, Timeout: opts.TransactionTimeout,
		})
	}
	return d, err
}

// Open connects. With transactions it is where the brokers may refuse.
func (d *Detached) Open(ctx context.Context) (err error) {
	if d.transactions != nil {
		return configurationFault(d.transactions.Open(ctx))
	}
	d.producer, err = newClient(d.client)
	return err
}

// Publish publishes the events and the dead letters of a batch, and further records, such as
// the audit record of a replay: with transactions all of them or none. It ignores the batch's
// position. After an error it accepts nothing more.
func (d *Detached) Publish(ctx context.Context, batch *Batch, with ...kgo.Record) error {
	records, err := d.buffer.fill(batch, &d.opts)
	if err != nil {
		return err
	}
	records = append(records, with...)
	if len(records) == 0 {
		return nil
	}
	if d.transactions != nil {
		err = d.transactions.Commit(ctx, records)
	} else {
		err = resumetoken.Deliver(ctx, d.producer, records)
	}
	if err != nil {
		d.buffer = recordBuffer{} // some of its records may still be on their way
		return fmt.Errorf("publish records (%d): %w", len(records), configurationFault(err))
	}
	d.buffer.release()
	return nil
}

// MaxEventBytes is the largest event, as Event.Size counts it, that the topic takes.
func (d *Detached) MaxEventBytes(topic string) int { return d.opts.MaxEventBytes(topic) }

// Close gives up the connection; nothing is pending between two batches.
func (d *Detached) Close() {
	if d.transactions != nil {
		d.transactions.Close()
	}
	if d.producer != nil {
		d.producer.Close()
	}
}
