package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/program"
)

// slicings are the numbers of slices that are compared; 1 is a stream without any.
func slicings() []int { return []int{1, 2, 4} }

// perEntries is the number of oplog entries that mongod's cost is told for.
const perEntries = 100_000

// slicedContenders are the daemon with its one collection in one stream or in slices.
func (b *bench) slicedContenders() []contender {
	var all []contender
	for _, n := range slicings() {
		name := "1 stream"
		var streams []string
		if n > 1 {
			name = strconv.Itoa(n) + " slices"
			streams = []string{fmt.Sprintf("FHIR_CDC_STREAMS=[{name: hot, resources: [Consent], slices: %d}]", n)}
		}
		all = append(all, contender{name, func(t task) program.Command {
			c := b.daemonCommand(t, "exactly_once")
			c.Env = append(c.Env, streams...)
			return c
		}})
	}
	return all
}

// measureSlices has streams in slices drain the backlog, and carry live writes.
func (b *bench) measureSlices(ctx context.Context) ([]drainResult, []latencyResult, error) {
	b.say("loading %d Consents", b.docs)
	run := b.runName()
	from, err := writeBacklog(ctx, b.client, run, b.docs)
	if err != nil {
		return nil, nil, err
	}
	var drains []drainResult
	for round := 1; round <= b.rounds; round++ {
		for _, c := range b.slicedContenders() {
			r, err := b.drain(ctx, c, run, from)
			if err != nil {
				return drains, nil, err
			}
			drains = append(drains, b.noteDrain(r, round))
		}
	}
	var latencies []latencyResult
	for _, c := range b.slicedContenders() {
		now, err := operationTime(ctx, b.client)
		if err != nil {
			return drains, latencies, err
		}
		r, err := b.latency(ctx, c, time.Unix(int64(now.T), 0).UTC())
		latencies = append(latencies, r...)
		if err != nil {
			return drains, latencies, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return drains, latencies, nil
}

// probes is more documents than all slices together can miss.
const probes = 64

// allFlow waits until documents of all slices have come through: each begins at a time
// before them.
func (b *bench) allFlow(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stalled, errors.New("not all slices carry documents"))
	defer cancel()
	consumer, err := b.consumeFromEnd(ctx, topic)
	if err != nil {
		return err
	}
	defer consumer.Close()
	run := b.runName()
	if _, err := writeAtRate(ctx, b.client, run, probes, probes); err != nil {
		return err
	}
	_, err = timeRecords(ctx, consumer, run, probes)
	return err
}

// slicesTable writes medians, each with its ratio to that of one stream.
func slicesTable(w io.Writer, results []drainResult) {
	rows := [][]string{{"what", "records/s", "/ 1 stream", "CPU s", "/ 1 stream", "mongod CPU s per 100,000 entries", "/ 1 stream", "broker CPU s", "peak RSS MiB", "duplicates", "load"}}
	values := func(what string, value func(drainResult) float64) []float64 { return sortedOf(results, what, value) }
	columns := []func(drainResult) float64{
		func(r drainResult) float64 { return r.Rate },
		func(r drainResult) float64 { return r.CPU },
		func(r drainResult) float64 { return r.CPUMongoDB * perEntries / float64(r.Docs) },
	}
	first := results[0].What
	var done []string
	for _, r := range results {
		if slices.Contains(done, r.What) {
			continue
		}
		done = append(done, r.What)
		row := []string{r.What}
		for i, column := range columns {
			mine, one := values(r.What, column), median(values(first, column))
			digits := 2
			if i == 0 {
				digits = 0
			}
			row = append(row, spread(mine, digits), fmt.Sprintf("%.2f", median(mine)/one))
		}
		rows = append(rows, append(row,
			spread(values(r.What, func(r drainResult) float64 { return r.CPUKafka }), 2),
			spread(values(r.What, func(r drainResult) float64 { return r.RSS }), 0),
			spread(values(r.What, func(r drainResult) float64 { return float64(r.Duplicates) }), 0),
			spread(values(r.What, func(r drainResult) float64 { return r.Load }), 1)))
	}
	writeTable(w, rows)
}

// slicesLatencyTable writes what live writes cost, those of the writer included.
func slicesLatencyTable(w io.Writer, results []latencyResult) {
	rows := [][]string{{"what", "writes/s", "p50 ms", "p99 ms", "daemon CPU s", "mongod CPU s per 100,000 writes", "writer late ms", "load"}}
	for _, r := range results {
		rows = append(rows, []string{
			r.What, strconv.Itoa(r.Rate), fmt.Sprintf("%.1f", r.P50), fmt.Sprintf("%.1f", r.P99), fmt.Sprintf("%.2f", r.CPU),
			fmt.Sprintf("%.1f", r.CPUMongoDB*perEntries/float64(r.Writes)), fmt.Sprintf("%.1f", r.WriterLate), fmt.Sprintf("%.1f", r.Load),
		})
	}
	writeTable(w, rows)
}
