package terminal

import (
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

// NewProgress begins to show the progress of work: label names the work ("replay"), unit the
// counted things ("events"). total is their number, 0 if it is not known. Close ends the
// progress.
func NewProgress(s *Screen, label, unit string, total int64) *Progress {
	every := lineEvery
	if s.Interactive() {
		every = redrawEvery
	}
	p := newProgress(s, label, unit, total, time.Now())
	go p.run(every)
	return p
}

func newProgress(s *Screen, label, unit string, total int64, now time.Time) *Progress {
	return &Progress{
		screen: s, label: label, unit: unit, total: total, began: now,
		samples: []sample{{at: now}}, stop: make(chan struct{}), done: make(chan struct{}),
	}
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
		p.screen.redraw(line)
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
		close(p.stop)
		<-p.done
		if p.screen.Interactive() {
			p.screen.redraw("")
			return
		}
		p.show(time.Now())
	})
}

// line is the progress in words:
//
//	replay: 12,345 of 50,000 events (24 %), 3,210/s, 12 s left
//	replay: 12,345 events, 3,210/s, for 4 s
//	replay: 60 of 600 s of the oplog (10 %), 12,345 events, 3,210/s, 36 s left
func (p *Progress) line(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	rate, made := p.rate(now)
	parts := []string{p.label + ": " + Count(p.count) + " " + p.unit, fmt.Sprintf("%s/s", Count(int64(rate)))}
	if p.madeUnit != "" {
		parts[1] = fmt.Sprintf("%s %s, %s/s", Count(p.made), p.madeUnit, Count(int64(made)))
	}
	if p.total > 0 {
		parts[0] = fmt.Sprintf("%s: %s of %s %s (%d %%)", p.label, Count(p.count), Count(p.total), p.unit, min(100, p.count*100/p.total))
	}
	switch left := p.total - p.count; {
	case left > 0 && rate > 0:
		parts = append(parts, Duration(time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second))+" left")
	default:
		parts = append(parts, "for "+Duration(now.Sub(p.began)))
	}
	if p.detail != "" {
		parts = append(parts, p.detail)
	}
	return strings.Join(parts, ", ")
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
