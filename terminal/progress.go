package terminal

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// redrawEvery is short enough to look alive.
	redrawEvery = 200 * time.Millisecond
	// lineEvery is for logs: a line every few seconds.
	lineEvery = 5 * time.Second
	// waitShown is longer than most commands take, and too short to wonder.
	waitShown = 500 * time.Millisecond
	// rateWindow is how far back the present rate looks.
	rateWindow = 10 * time.Second
)

// Progress shows the progress of long work: on a terminal in a line that is
// redrawn, elsewhere in a line every few seconds. It belongs on stderr, so that
// stdout holds the result only. Several goroutines may use it.
type Progress struct {
	screen      *Screen
	label, unit string
	began       time.Time
	started     bool
	stop, done  chan struct{}
	closing     sync.Once

	mu      sync.Mutex
	count   int64
	total   int64 // 0: not known
	detail  string
	samples []sample
	// made is the number of results so far; if it has a unit, its rate is shown.
	made     int64
	madeUnit string
}

// sample is the count at a time.
type sample struct {
	at          time.Time
	count, made int64
}

// OplogSeconds is the unit of work that goes through the oplog, whose changes nobody has counted.
const OplogSeconds = "second of the oplog"

// NewProgress begins to show the progress of work: label names the work ("replay"), unit one
// of the counted things ("event"). total is their number, 0 if it is not known. Close ends the
// progress.
func NewProgress(s *Screen, label, unit string, total int64) *Progress {
	p := newProgress(s, label, unit, total, time.Now())
	p.start()
	return p
}

// NewWait will show that a command is at work and, by Waits, what it waits for: from Begin to
// Close, on a terminal only, and not before a moment has passed.
func NewWait(s *Screen) *Progress { return newProgress(s, "", "", 0, time.Now()) }

const atWork = "at work"

type progressKey struct{}

// With gives work a place to tell what it waits for.
func With(ctx context.Context, p *Progress) context.Context {
	return context.WithValue(ctx, progressKey{}, p)
}

// Begin begins to show the wait of a context, if it has one, under a label.
func Begin(ctx context.Context, label string) {
	p, ok := ctx.Value(progressKey{}).(*Progress)
	if !ok || !p.screen.Interactive() || p.started {
		return
	}
	p.label = label
	p.waits(atWork)
	p.start()
}

// Waits tells, if somebody watches, what work waits for, such as "MongoDB at db:27017", until
// ended is called. While it waits for "", nothing is shown.
func Waits(ctx context.Context, what string) (ended func()) {
	p, ok := ctx.Value(progressKey{}).(*Progress)
	if !ok {
		return func() {}
	}
	if what != "" {
		what = "waits for " + what
	}
	before := p.waits(what)
	return func() { p.waits(before) }
}

func (p *Progress) waits(detail string) (before string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, p.detail, p.began = p.detail, detail, time.Now()
	if p.started {
		bottom.draw(p, p.screen.out, "") // What was shown is over.
	}
	return before
}

func newProgress(s *Screen, label, unit string, total int64, now time.Time) *Progress {
	return &Progress{
		screen: s, label: label, unit: unit, total: total, began: now,
		samples: []sample{{at: now}}, stop: make(chan struct{}), done: make(chan struct{}),
	}
}

func (p *Progress) start() {
	p.started = true
	every := lineEvery
	if p.screen.Interactive() {
		every = redrawEvery
		bottom.begin(p)
	}
	go p.run(every)
}

func (p *Progress) run(every time.Duration) {
	defer close(p.done)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.show(now)
		case <-p.stop:
			return
		}
	}
}

func (p *Progress) show(now time.Time) {
	line := p.line(now)
	if p.screen.Interactive() {
		bottom.draw(p, p.screen.out, p.screen.cut(line))
		return
	}
	_ = p.screen.Print(line) // The work goes on if nobody can read its progress.
}

// Set sets the count.
func (p *Progress) Set(count int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count = count
}

// Resume sets the count that was done before this work began, which is no part of its rate.
func (p *Progress) Resume(count int64) { p.resume(count, time.Now()) }

func (p *Progress) resume(count int64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count = count
	p.samples = []sample{{now, count, p.made}}
}

// Phase begins to count another unit, up to total.
func (p *Progress) Phase(unit string, total int64) {
	p.mu.Lock()
	p.unit, p.total = unit, total
	p.mu.Unlock()
	p.Resume(0)
}

// Made sets the number of results so far. Progress shows it with its rate, for work whose unit
// has no interesting rate.
func (p *Progress) Made(n int64, unit string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made, p.madeUnit = n, unit
}

// Total sets the total when it becomes known.
func (p *Progress) Total(total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = total
}

// Detail sets the end of the line, such as a position.
func (p *Progress) Detail(detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.detail = detail
}

// Close removes the redrawn line; elsewhere it leaves a last line. A second call does nothing.
func (p *Progress) Close() {
	p.closing.Do(func() {
		if !p.started {
			return
		}
		close(p.stop)
		<-p.done
		if p.screen.Interactive() {
			bottom.end(p, p.screen.out)
			return
		}
		p.show(time.Now())
	})
}

// line is the progress in words:
//
//	replay: 12,345 of 50,000 events (24 %), 3,210 a second, 12 s left
//	replay: 12,345 events, 3,210 a second, for 4 s
//	replay: 1 min of 10 min of the oplog (10 %), 12,345 events, 3,210 a second, 36 s left
//	check: waits for MongoDB at db:27017, for 3 s
func (p *Progress) line(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	passed := "for " + Duration(now.Sub(p.began).Truncate(100*time.Millisecond))
	switch {
	case p.unit == "" && (p.detail == "" || now.Sub(p.began) < waitShown):
		return ""
	case p.unit == "":
		return p.label + ": " + p.detail + ", " + passed
	}
	rate, made := p.rate(now)
	parts := []string{p.label + ": " + amount(p.count, p.unit), Count(int64(rate)) + " a second"}
	if p.madeUnit != "" {
		parts[1] = fmt.Sprintf("%s, %s a second", Counted(p.made, p.madeUnit), Count(int64(made)))
	}
	if p.total > 0 {
		count := Count(p.count)
		if p.unit == OplogSeconds {
			count = seconds(p.count)
		}
		parts[0] = fmt.Sprintf("%s: %s of %s (%d %%)", p.label, count, amount(p.total, p.unit), min(100, p.count*100/p.total))
	}
	switch left := p.total - p.count; {
	case left > 0 && rate > 0:
		parts = append(parts, Duration(time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second))+" left")
	default:
		parts = append(parts, passed)
	}
	if p.detail != "" {
		parts = append(parts, p.detail)
	}
	return strings.Join(parts, ", ")
}

func amount(n int64, unit string) string {
	if unit == OplogSeconds {
		return seconds(n) + " of the oplog"
	}
	return Counted(n, unit)
}

func seconds(n int64) string {
	if n == 0 {
		return "0 s"
	}
	return Duration(time.Duration(n) * time.Second)
}

// rate is the recent number of units, and of results, a second.
func (p *Progress) rate(now time.Time) (counted, made float64) {
	for len(p.samples) > 1 && now.Sub(p.samples[1].at) >= rateWindow {
		p.samples = p.samples[1:]
	}
	oldest := p.samples[0]
	p.samples = append(p.samples, sample{now, p.count, p.made})
	passed := now.Sub(oldest.at).Seconds()
	if passed <= 0 {
		return 0, 0
	}
	return float64(p.count-oldest.count) / passed, float64(p.made-oldest.made) / passed
}
