package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Transaction is a transaction to try.
type Transaction struct {
	// Client reaches the brokers.
	Client []kgo.Opt
	// ID is a transactional id that no stream has.
	ID string
	// Topic gets the aborted record. It is the position topic: only the daemon reads it, and
	// only committed records.
	Topic string
	// Timeout is kafka.transaction_timeout.
	Timeout time.Duration
}

// Try begins a transaction, writes a record and aborts it. While the transaction is open, the
// brokers report its beginning by their clock.
func (t Transaction) Try(ctx context.Context) []Finding {
	const subject = "transactions"
	client, err := kgo.NewClient(slices.Concat(t.Client, []kgo.Opt{
		kgo.TransactionalID(t.ID), kgo.TransactionTimeout(t.Timeout), kgo.RequiredAcks(kgo.AllISRAcks()),
	})...)
	if err != nil {
		return []Finding{failure(subject, short(err), "")}
	}
	defer client.Close()
	findings, err := t.try(ctx, client)
	if err != nil {
		return append(findings, failure(subject, short(err), t.advice(err)))
	}
	return append([]Finding{ok(subject, "one was begun, written to and aborted")}, findings...)
}

func (t Transaction) try(ctx context.Context, client *kgo.Client) ([]Finding, error) {
	if _, _, err := client.ProducerID(ctx); err != nil {
		return nil, err
	}
	before := time.Now()
	if err := client.BeginTransaction(); err != nil {
		return nil, err
	}
	// A record without a value deletes its key; aborted, it does nothing.
	record := &kgo.Record{Topic: t.Topic, Key: []byte(t.ID)}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return nil, errors.Join(err, abort(ctx, client))
	}
	after := time.Now()
	findings := t.clock(ctx, client, before, after)
	return findings, abort(ctx, client)
}

// abortTime is how long the brokers may take to abort the transaction.
const abortTime = 5 * time.Second

// abort ends the transaction, also after ctx has ended: an open one would hold up the start of
// every stream of its partition until its timeout.
func abort(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	return errors.Join(client.AbortBufferedRecords(ctx), client.EndTransaction(ctx, kgo.TryAbort))
}

// clock compares the coordinator's clock with ours. Kafka has no other way to ask for it.
func (t Transaction) clock(ctx context.Context, client *kgo.Client, before, after time.Time) []Finding {
	described, err := kadm.NewClient(client).DescribeTransactions(ctx, t.ID)
	if err == nil {
		err = described[t.ID].Err
	}
	if at := described[t.ID].StartTimestamp; err == nil && at > 0 {
		return []Finding{clock("Kafka: clock", time.UnixMilli(at), before, after)}
	}
	return []Finding{ok("Kafka: clock", "not known: the brokers do not say when a transaction began")}
}

func (t Transaction) advice(err error) string {
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		installation, _, _ := strings.Cut(t.ID, "/")
		return fmt.Sprintf("grant Write on the transactional ids that begin with %q", installation+"/")
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return "grant Read, Write and Describe on topic " + t.Topic
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return "set kafka.transaction_timeout to at most the brokers' transaction.max.timeout.ms"
	case errors.Is(err, kerr.CoordinatorNotAvailable), errors.Is(err, context.DeadlineExceeded):
		return "the brokers have no transaction coordinator: with fewer than three brokers, set transaction.state.log.replication.factor and transaction.state.log.min.isr to 1"
	}
	return ""
}
