package faults_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

const (
	// shortestLife is the least time between two ends.
	shortestLife = 150 * time.Millisecond
	// longestStart bounds the random time from the start of the process to its end,
	// longestRun that from when it reads changes or has published some.
	longestStart, longestRun = 1500 * time.Millisecond, 600 * time.Millisecond
)

// life is one life of the daemon, from the start of its process to its end.
type life struct {
	began, ended time.Time
	// ready is whether it had got to reading changes.
	ready bool
	// committed is how many records of this life can be consumed, discarded how
	// many were in a transaction that its end broke off.
	committed, discarded int
}

// gate lets a load go on in step with the ends of the daemon, so that they are
// spread over all of it on any machine.
type gate struct {
	mu      sync.Mutex
	limit   int
	changed chan struct{}
}

func newGate(limit int) *gate { return &gate{limit: limit, changed: make(chan struct{})} }

// wait waits until change n is within the limit.
func (g *gate) wait(ctx context.Context, n int) error {
	for {
		g.mu.Lock()
		open, changed := n < g.limit, g.changed
		g.mu.Unlock()
		if open {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *gate) raise(limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = limit
	close(g.changed)
	g.changed = make(chan struct{})
}

// live runs the daemon n times while l is writing, and has each life ended at a
// random moment.
func (i *installation) live(ctx context.Context, l *load, n int, random *rand.Rand, end func(*harness.Daemon)) []life {
	i.t.Helper()
	share := l.changes/(n+1) + 1
	g := newGate(2 * share)
	l.gate = g.wait
	await := l.begin(ctx, i.t)
	var lives []life
	reader := harness.NewReader(i.t, i.site.Brokers, i.topics()...)
	sorts := random.Perm(n)
	for k := range n {
		now := life{began: time.Now()}
		d := i.start()
		if err := i.randomMoment(ctx, d, now.began, reader, sorts[k], random); err != nil {
			i.t.Fatalf("life %d of %s: %v", k+1, i.mode.name, err)
		}
		end(d)
		now.ended = time.Now()
		now.ready = d.WaitReady(ctx) == nil // it has ended: this only looks
		lives = append(lives, now)
		g.raise((k + 3) * share)
	}
	g.raise(l.changes)
	i.start()
	await()
	return lives
}

// randomMoment waits for a moment of a life. Of four sorts, one is counted from the
// start, so that taking the stream over is hit too, one from when it reads changes,
// two from when something of this life can be consumed.
func (i *installation) randomMoment(ctx context.Context, d *harness.Daemon, began time.Time, reader *harness.Reader, sort int, random *rand.Rand) error {
	ctx, cancel := whileAlive(ctx, d)
	defer cancel()
	rest := between(random, 0, longestRun)
	switch sort % 4 {
	case 0:
		rest = between(random, 0, longestStart)
	case 1:
		if err := d.WaitReady(ctx); err != nil {
			return err
		}
	default:
		_, err := reader.Until(ctx, func(records []harness.Record) bool {
			return len(records) > 0 && records[len(records)-1].Timestamp.After(began)
		})
		if err != nil {
			return err
		}
	}
	return pass(ctx, max(rest, shortestLife-time.Since(began)))
}

// account tells what each life has brought about, by the records' times: they are
// of this machine's clock. It returns how many lives have committed something, and
// how many left records in an open transaction.
func (i *installation) account(ctx context.Context, lives []life, committed []harness.Record) (busy, open int) {
	i.t.Helper()
	all, err := everyRecord(ctx, i.t, i.site.Brokers, i.topics())
	if err != nil {
		i.t.Fatalf("read what was not committed: %v", err)
	}
	read := make(map[place]bool, len(committed))
	for _, r := range committed {
		read[place{r.Topic, r.Partition, r.Offset}] = true
	}
	for _, r := range all {
		k, found := slices.BinarySearchFunc(lives, r.Timestamp, func(l life, at time.Time) int {
			switch {
			case l.ended.Before(at):
				return -1
			case l.began.Truncate(time.Millisecond).After(at):
				return 1
			}
			return 0
		})
		switch {
		case !found: // of the last life
		case read[place{r.Topic, r.Partition, r.Offset}]:
			lives[k].committed++
		default:
			lives[k].discarded++
		}
	}
	var ready, discarded int
	for _, l := range lives {
		ready += number(l.ready)
		busy += number(l.committed > 0)
		open += number(l.discarded > 0)
		discarded += l.discarded
	}
	i.t.Logf("%s: of %d ended lives %d had got to reading changes, %d had committed something, %d left records in an open transaction (%d records)",
		i.mode.name, len(lives), ready, busy, open, discarded)
	return busy, open
}

// enough makes sure that a quarter of the lives had committed something.
func (i *installation) enough(lives []life, busy int) {
	i.t.Helper()
	if busy*4 < len(lives) {
		i.t.Errorf("only %d of %d lives had committed something: this run proves too little", busy, len(lives))
	}
}

type place struct {
	topic     string
	partition int32
	offset    int64
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// everyRecord reads topics to their end, transactions that were not committed
// included.
func everyRecord(ctx context.Context, t *testing.T, brokers, topics []string) ([]*kgo.Record, error) {
	t.Helper()
	client, err := kgo.NewClient(append(harness.Consuming(t, topics...), kgo.SeedBrokers(brokers...),
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.KeepControlRecords(), // they tell that the end has been reached
	)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	left := map[place]bool{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[place{o.Topic, o.Partition, o.Offset - 1}] = true
		}
	})
	var all []*kgo.Record
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			delete(left, place{r.Topic, r.Partition, r.Offset})
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
		})
	}
	return all, nil
}
