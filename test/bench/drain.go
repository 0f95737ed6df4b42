package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/program"
)

const (
	// watchInterval is short beside a run and long beside what a look costs the
	// broker.
	watchInterval = 25 * time.Millisecond
	// settled is how long a topic must stay as it is to be read: more than any
	// contender pauses.
	settled = time.Second
	// stalled is how long a run may stand still before it has failed.
	stalled = 30 * time.Second
	// logLines is how much of the log of a failed run is shown.
	logLines = 15
)

// drain measures one contender with the backlog of run.
func (b *bench) drain(ctx context.Context, c contender, run string, from time.Time) (r drainResult, err error) {
	t := task{topic: b.topicName(), from: from, n: b.docs}
	if err := createTopic(ctx, b.admin, t.topic, b.partitions); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, deleteTopic(context.WithoutCancel(ctx), b.admin, t.topic)) }()

	var log program.Log
	command := c.command(t)
	command.Stderr = &log
	start := time.Now()
	p, err := program.Start(command)
	if err != nil {
		return r, err
	}
	w, got, err := b.watch(ctx, p, t.topic, run)
	r = drainResult{
		What: c.name, Docs: b.docs, Records: got.records, Distinct: got.distinct, Duplicates: got.duplicates(), Disordered: got.disordered,
		RSS: peakMemory(p.Pid()), Load: load(),
	}
	if stopped := p.Stop(); err == nil {
		err = stopped
	}
	if err != nil {
		return r, fmt.Errorf("%s: %d of %d documents: %w; its log ends with:\n%s", c.name, got.distinct, b.docs, err, strings.Join(log.Tail(logLines), "\n"))
	}
	r.CPU, r.CPUStart = w.cpu.Seconds(), w.cpuStart.Seconds()
	r.CPUMongoDB, r.CPUKafka = w.cpuMongoDB.Seconds(), w.cpuKafka.Seconds()
	r.FirstMS = milliseconds(got.first.Sub(start))
	r.Seconds = got.last.Sub(got.first).Seconds()
	r.Rate = float64(got.records) / r.Seconds
	r.ValueBytes = float64(got.bytes) / float64(got.records)
	return r, nil
}

// sample is how far a run is, and what it has cost.
type sample struct {
	offsets                   int64
	cpu, cpuMongoDB, cpuKafka time.Duration
	// cpuStart is what of cpu came before the first record.
	cpuStart time.Duration
}

func (b *bench) sample(ctx context.Context, pid int, topic string) (sample, error) {
	offsets, err := committed(ctx, b.admin, topic)
	return sample{offsets: offsets, cpu: cpuTime(pid), cpuMongoDB: cpuTime(b.mongoDB.Pid()), cpuKafka: cpuTime(b.kafka.Pid())}, err
}

// watch waits until every document of run has come to the topic, and returns what
// that has cost. The records are read only when no more come, so that reading them
// costs the run nothing.
func (b *bench) watch(ctx context.Context, p *program.Process, topic, run string) (sample, contents, error) {
	before := sample{cpuMongoDB: cpuTime(b.mongoDB.Pid()), cpuKafka: cpuTime(b.kafka.Pid())}
	var last sample
	var got contents
	moved, read := time.Now(), int64(-1)
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		s, err := b.sample(ctx, p.Pid(), topic)
		if err != nil {
			return s, got, err
		}
		if s.offsets != last.offsets {
			s.cpuStart = last.cpuStart
			if last.offsets == 0 {
				s.cpuStart = s.cpu
			}
			last, moved = s, time.Now()
		}
		still := time.Since(moved)
		if last.offsets >= int64(b.docs) && still > settled && read != last.offsets {
			read = last.offsets
			if got, err = readTopic(ctx, b.kafka.Brokers, b.admin, topic, run); err != nil {
				return s, got, err
			}
			if got.distinct == b.docs {
				last.cpuMongoDB -= before.cpuMongoDB
				last.cpuKafka -= before.cpuKafka
				return last, got, nil
			}
		}
		if still > stalled {
			return s, got, fmt.Errorf("no record for %v", stalled)
		}
		select {
		case <-ctx.Done():
			return s, got, context.Cause(ctx)
		case <-p.Done():
			return s, got, fmt.Errorf("ended with code %d", p.ExitCode())
		case <-ticker.C:
		}
	}
}

// drainBare measures the change stream with nothing behind it.
func (b *bench) drainBare(ctx context.Context, from time.Time) (drainResult, error) {
	var out bytes.Buffer
	var log program.Log
	before := cpuTime(b.mongoDB.Pid())
	p, err := program.Start(program.Command{
		Path: b.self, Stdout: &out, Stderr: &log,
		Args: []string{"stream", "-mongo", b.mongoDB.URI, "-from", strconv.FormatInt(from.Unix(), 10), "-n", strconv.Itoa(b.docs)},
	})
	if err != nil {
		return drainResult{}, err
	}
	if err := p.Wait(ctx); err != nil {
		return drainResult{}, errors.Join(err, p.Kill())
	}
	var bare bareResult
	if p.ExitCode() != 0 {
		return drainResult{}, fmt.Errorf("%s: exit code %d\n%s", nameBare, p.ExitCode(), strings.Join(log.Tail(logLines), "\n"))
	}
	if err := json.Unmarshal(out.Bytes(), &bare); err != nil {
		return drainResult{}, fmt.Errorf("%s: result: %w", nameBare, err)
	}
	return drainResult{
		What: nameBare, Docs: b.docs, Records: b.docs, Distinct: b.docs,
		Seconds: bare.Seconds, Rate: float64(b.docs) / bare.Seconds, FirstMS: bare.FirstMS, CPU: bare.CPU, RSS: bare.RSS,
		CPUMongoDB: (cpuTime(b.mongoDB.Pid()) - before).Seconds(), Load: load(),
	}, nil
}

// drains measures all contenders, round by round, so that what else the machine
// does falls on all of them.
func (b *bench) drains(ctx context.Context) ([]drainResult, error) {
	b.say("loading %d Consents", b.docs)
	run := b.runName()
	from, err := writeBacklog(ctx, b.client, run, b.docs)
	if err != nil {
		return nil, err
	}
	var results []drainResult
	for round := 1; round <= b.rounds; round++ {
		r, err := b.drainBare(ctx, from)
		if err != nil {
			return results, err
		}
		results = append(results, b.noteDrain(r, round))
		for _, c := range b.contenders() {
			r, err := b.drain(ctx, c, run, from)
			if err != nil {
				return results, err
			}
			results = append(results, b.noteDrain(r, round))
		}
	}
	return results, nil
}
