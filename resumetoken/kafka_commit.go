package resumetoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Commit makes one transaction of records and the position after them. It owns
// the records until it returns nil; after an error they must not be used again,
// since some may still be on their way.
//
// An error that is ErrFenced says that another process has the stream. Every
// other error, an unknown outcome included, is over once Acquire has succeeded
// and the position that it returns has been taken up.
func (k *Kafka) Commit(ctx context.Context, records []kgo.Record, p Position) error {
	if !k.live {
		return fmt.Errorf("commit to stream %q: %w", k.opts.Stream, errNotAcquired)
	}
	if err := checkForward(k.last, p.ClusterTime); err != nil {
		return fmt.Errorf("commit to stream %q: %w", k.opts.Stream, err)
	}
	own, err := k.positionRecords(p)
	if err != nil {
		return fmt.Errorf("commit to stream %q: %w", k.opts.Stream, err)
	}
	k.live = false
	if err := k.transact(ctx, records, own, k.observe); err != nil {
		return fmt.Errorf("commit %d records to stream %q: %w", len(records), k.opts.Stream, k.lost(ctx, err))
	}
	k.live = true
	k.offset = own[len(own)-1].Offset
	k.last, k.hour = p.ClusterTime, hourOf(p.ClusterTime)
	return nil
}

// transact runs one transaction. kgo commits whatever has been acknowledged if it
// is told to, so a single failed record must lead to the abort of all.
func (k *Kafka) transact(ctx context.Context, records, own []kgo.Record, observe func(string)) error {
	observe("before_begin")
	if err := k.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
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
	if err := k.client.EndTransaction(end, kgo.TryCommit); err != nil {
		return fmt.Errorf("end transaction (whether it was committed is not known): %w", err)
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

// lost finds out what a failed transaction means: ErrFenced if another process
// has claimed the stream since this one's last commit, else the error itself.
// Taking a stream back from its rightful owner would make the two take it from
// each other for ever.
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
		if err := pause(ctx, claimPoll); err != nil {
			return cause
		}
	}
}
