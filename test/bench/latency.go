package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/test/program"
)

// warmUp is the share of each measurement that is left out: connections are made
// and memory grows at the beginning.
const warmUp = 10 // percent

// rates are the writes a second at which latency is measured.
func rates() []int { return []int{200, 1000} }

// latencies measures, one after the other and round by round, the time from a write to the
// record in the hands of a consumer that reads committed records. Each round begins with
// another one, since a broker that has just started is slow.
func (b *bench) latencies(ctx context.Context) ([]latencyResult, error) {
	contenders := []contender{
		{nameLoop, func(t task) program.Command { return b.loopCommand(t, 0) }},
		{nameExactlyOnce, func(t task) program.Command { return b.daemonCommand(t, "exactly_once") }},
		{nameNoRest, func(t task) program.Command {
			command := b.daemonCommand(t, "exactly_once")
			command.Env = append(command.Env, "FHIR_CDC_BATCH_MAX_DELAY=0s")
			return command
		}},
		{nameAtLeastOnce, func(t task) program.Command { return b.daemonCommand(t, "at_least_once") }},
	}
	var results []latencyResult
	for round := range b.rounds {
		for i := range contenders {
			c := contenders[(round+i)%len(contenders)]
			r, err := b.latency(ctx, c, time.Time{})
			results = append(results, r...)
			if err != nil {
				return results, fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return results, nil
}

// latency measures one contender at all rates, in one life of it, which begins at a
// time; zero means now.
func (b *bench) latency(ctx context.Context, c contender, from time.Time) (results []latencyResult, err error) {
	t := task{topic: b.topicName(), from: from}
	if err := createTopic(ctx, b.admin, t.topic, b.partitions); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, deleteTopic(context.WithoutCancel(ctx), b.admin, t.topic)) }()
	var log program.Log
	command := c.command(t)
	command.Stderr = &log
	p, err := program.Start(command)
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopped := p.Stop(); err == nil {
			err = stopped
		}
		if err != nil {
			err = fmt.Errorf("%w; its log ends with:\n%s", err, strings.Join(log.Tail(logLines), "\n"))
		}
	}()
	if err := b.flowing(ctx, p, t.topic); err != nil {
		return nil, err
	}
	if !from.IsZero() {
		if err := b.allFlow(ctx, t.topic); err != nil {
			return nil, err
		}
	}
	for _, rate := range rates() {
		r, err := b.latencyAt(ctx, p, t.topic, rate)
		if err != nil {
			return results, err
		}
		r.What = c.name
		results = append(results, b.noteLatency(r))
	}
	return results, nil
}

// flowing writes a document now and then until the first has come through.
func (b *bench) flowing(ctx context.Context, p *program.Process, topic string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stalled, fmt.Errorf("nothing came through in %v", stalled))
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := writeAtRate(ctx, b.client, b.runName(), 1, 1); err != nil {
			return err
		}
		if n, err := committed(ctx, b.admin, topic); err != nil || n > 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.Done():
			return fmt.Errorf("ended with code %d", p.ExitCode())
		case <-ticker.C:
		}
	}
}

// latencyAt writes at a rate and takes the time of every record.
func (b *bench) latencyAt(ctx context.Context, p *program.Process, topic string, rate int) (latencyResult, error) {
	n := rate * int(b.latencyTime/time.Second)
	run := b.runName()
	ctx, cancel := context.WithTimeoutCause(ctx, b.latencyTime+stalled, fmt.Errorf("not all of %d documents came through", n))
	defer cancel()
	consumer, err := b.consumeFromEnd(ctx, topic)
	if err != nil {
		return latencyResult{}, err
	}
	defer consumer.Close()
	before, err := b.sample(ctx, p.Pid(), topic)
	if err != nil {
		return latencyResult{}, err
	}
	began := time.Now()
	var late time.Duration
	var took []float64
	group, working := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		late, err = writeAtRate(working, b.client, run, n, rate)
		return err
	})
	group.Go(func() (err error) {
		took, err = timeRecords(working, consumer, run, n)
		return err
	})
	if err := group.Wait(); err != nil {
		return latencyResult{}, err
	}
	seconds := time.Since(began).Seconds()
	after, err := b.sample(ctx, p.Pid(), topic)
	if err != nil {
		return latencyResult{}, err
	}
	slices.Sort(took)
	return latencyResult{
		Rate: rate, Writes: n, Measured: len(took),
		// What is no record is the mark of a transaction, one in each partition.
		Transactions: float64(after.offsets-before.offsets-int64(n)) / seconds,
		Min:          took[0], P50: percentile(took, 50), P90: percentile(took, 90), P99: percentile(took, 99), Max: took[len(took)-1],
		WriterLate: milliseconds(late), CPU: (after.cpu - before.cpu).Seconds(), CPUMongoDB: (after.cpuMongoDB - before.cpuMongoDB).Seconds(),
		CPUKafka: (after.cpuKafka - before.cpuKafka).Seconds() / seconds, RSS: peakMemory(p.Pid()), Load: load(),
	}, nil
}

// consumeFromEnd returns a consumer that stands at the end of a topic.
func (b *bench) consumeFromEnd(ctx context.Context, topic string) (*kgo.Client, error) {
	ends, err := b.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("ask for the end of %s: %w", topic, err)
	}
	at := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) { at[o.Partition] = kgo.NewOffset().At(o.Offset) })
	consumer, err := kgo.NewClient(
		kgo.SeedBrokers(b.kafka.Brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMinBytes(1), kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return nil, fmt.Errorf("make consumer: %w", err)
	}
	return consumer, nil
}

// timeRecords takes the time of each document of run, in milliseconds, until all n
// have come. The first ones are the warm-up.
func timeRecords(ctx context.Context, consumer *kgo.Client, run string, n int) ([]float64, error) {
	var took []float64
	seen := make(map[int]bool, n)
	for len(seen) < n {
		fetches := consumer.PollFetches(ctx)
		now := time.Now()
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d documents came: %w", len(seen), n, errors.Join(context.Cause(ctx), err))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			d, ok := parseID(string(r.Key))
			if !ok || d.run != run || seen[d.number] {
				return
			}
			seen[d.number] = true
			if d.number >= n*warmUp/100 {
				took = append(took, milliseconds(now.Sub(d.written)))
			}
		})
	}
	return took, nil
}

// percentile of sorted values: the smallest that p percent are not above.
func percentile(sorted []float64, p int) float64 {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}
