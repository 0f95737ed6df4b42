package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// countingPublisher is a Publisher that counts its commits: in the stream's Progress, in its
// traces, and in the bound of its batches.
type countingPublisher struct {
	Publisher
	stream *Stream
	// committed says that events or dead letters were committed, not only positions.
	committed bool
	// letters counts the dead letters since the last log line about them, which is of the time told.
	letters int
	told    time.Time
	// last is the position of the last commit, or where the reading began.
	last resumetoken.Position
}

func (p *countingPublisher) Commit(ctx context.Context, b *publisher.Batch) error {
	began := time.Now()
	sorts := tally(b.Events)
	b.Position.Counts = p.stream.progress.counting(b, sorts)
	p.stream.progress.committing(began)
	defer p.stream.progress.committing(time.Time{})
	err := p.Publisher.Commit(ctx, b)
	p.trace(ctx, b, began, err)
	took := time.Since(began)
	switch {
	case endedByBrokers(err) && b.Changes > 0:
		p.stream.log.Warn("the brokers ended a transaction that was not done within kafka.transaction_timeout; batches become smaller until they are",
			zap.Int("changes", b.Changes), zap.Int("atMost", p.stream.bound.shrink(b.Changes, took)), zap.Duration("took", took))
		return err
	case err != nil:
		return err
	}
	p.stream.bound.grow(b.Changes, p.stream.opts.MaxRecords, took)
	p.stream.progress.committed(b, sorts, began)
	p.last = b.Position
	p.committed = p.committed || len(b.Events) > 0 || len(b.Failures) > 0
	p.tellLetters(b)
	return nil
}

// tellLetters logs that changes became dead letters, once a minute at most: they may be many.
func (p *countingPublisher) tellLetters(b *publisher.Batch) {
	p.letters += len(b.Failures)
	if len(b.Failures) == 0 || time.Since(p.told) < time.Minute {
		return
	}
	p.stream.log.Warn("changes could not become events", zap.Int("deadLetters", p.letters), zap.String("because", b.Failures[0].Reason),
		zap.String("advice", "Act: fhir-cdc dead-letters list names them; retry them after a fix."))
	p.letters, p.told = 0, time.Now()
}

// endedByBrokers tells whether the brokers ended a transaction, and nobody else did.
func endedByBrokers(err error) bool {
	return resumetoken.LostTransactions(err) && !errors.Is(err, resumetoken.ErrFenced)
}

// trace makes the span of a batch after its commit has succeeded or failed. The span has three
// parts: reading (which lasts until the batch before is mapped), mapping and committing.
// Attributes are counts and times, nothing of any document. Of an error the span has the
// type only: its text is in the log.
func (p *countingPublisher) trace(ctx context.Context, b *publisher.Batch, began time.Time, failed error) {
	if p.stream.opts.Tracer == nil || len(b.Events)+len(b.Failures) == 0 || b.Read.IsZero() {
		return
	}
	end := time.Now()
	ctx, span := p.stream.opts.Tracer.Start(ctx, "batch", trace.WithNewRoot(), trace.WithTimestamp(b.Read), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("messaging.system", "kafka"),
			attribute.Int("messaging.batch.message_count", len(b.Events)),
			attribute.String("fhir_cdc.stream", b.Position.Stream),
			attribute.Int("fhir_cdc.changes", b.Changes),
			attribute.Int("fhir_cdc.dead_letters", len(b.Failures)),
			attribute.Int64("fhir_cdc.cluster_time", int64(b.Position.ClusterTime.T)),
		))
	for _, part := range []struct {
		name     string
		from, to time.Time
	}{{"read", b.Read, b.Map}, {"map", b.Map, b.Mapped}, {"commit", began, end}} {
		_, child := p.stream.opts.Tracer.Start(ctx, part.name, trace.WithTimestamp(part.from))
		child.End(trace.WithTimestamp(part.to))
	}
	if failed != nil {
		span.SetStatus(codes.Error, "")
		span.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", failed)))
	}
	span.End(trace.WithTimestamp(end))
}

// committing is the last stage of one attempt: it commits batches in order.
//
// A transaction costs the brokers as much as hundreds of records. So the stage rests after a
// commit of events, and what comes meanwhile is committed together. A batch that is large enough
// does not wait, nor do the last ones before the end.
//
// A batch without events has a position only: it is stored at most once in IdleInterval, and the
// last one at the end. Where a Publisher does not store the position with each batch, the
// position of the newest batch is stored SaveInterval after its commit.
type committing struct {
	*Stream
	publisher Publisher
	next      next
	// due is when next is committed at the latest; nil for a position that waits for the next
	// one or the end.
	due <-chan time.Time
	// stored is when something was committed last, rested when the rest after it is over.
	stored, rested time.Time
}

// run commits batches until the channel is closed.
func (c *committing) run(ctx context.Context, batches <-chan *publisher.Batch) error {
	for {
		select {
		case <-c.due:
		case b, ok := <-batches:
			if !ok {
				return c.commit(ctx)
			}
			if !c.next.hasRoom(b, c.bound.atMost(c.opts.MaxRecords), c.opts.MaxBytes) {
				if err := c.commit(ctx); err != nil {
					return err
				}
			}
			c.next.add(b)
			if c.waits() {
				continue
			}
		}
		if err := c.commit(ctx); err != nil {
			return err
		}
	}
}

// waits tells whether the next batch waits for those that follow it.
func (c *committing) waits() bool {
	if !c.next.hasEvents() {
		if time.Since(c.stored) >= c.opts.IdleInterval {
			return false
		}
		c.progress.idle(c.next.Position)
		return true
	}
	left := time.Until(c.rested)
	if left <= 0 || c.next.full(c.bound.atMost(c.opts.MaxRecords), c.opts.MaxBytes) {
		return false
	}
	c.due = time.After(left)
	return true
}

// commit commits the next batch, if there is one.
func (c *committing) commit(ctx context.Context) error {
	b, events := c.next.Batch, c.next.hasEvents()
	c.next, c.due = next{}, nil
	if b == nil {
		return nil
	}
	began := time.Now()
	switch err := c.publisher.Commit(ctx, b); {
	case err != nil && !events:
		return fmt.Errorf("%w of the position: %w", errCommit, err)
	case err != nil:
		return fmt.Errorf("%w: %w", errCommit, err)
	}
	c.stored = time.Now()
	if !events {
		return nil
	}
	c.rested = c.stored.Add(rest(c.stored.Sub(began), c.opts.MaxDelay))
	if c.opts.SaveInterval > 0 {
		c.next.add(&publisher.Batch{Position: b.Position})
		c.due = time.After(c.opts.SaveInterval)
	}
	return nil
}
