package status

import (
	"math"
	"time"

	"github.com/fhir-cdc/fhir-cdc/daemon"
)

const (
	// tick is how often the streams' counts are read.
	tick = 2 * time.Second
	// nowTicks is how many ticks the present rate is of.
	nowTicks = 3
	// maxPoints bounds the points of a chart, and hourTicks the ticks of one: together an hour.
	maxPoints = 226
	hourTicks = 8
	// minutes is how many counts of the last hour are kept for its percentiles.
	minutes = 60
)

// Hour is what a stream did in the last hour, or since the process began.
type Hour struct {
	// Now is the events a second of the last seconds.
	Now float64
	// Points are the chart, oldest first.
	Points []Point
	// DeadLetters counts those of this process.
	DeadLetters uint64
	// EndToEnd has the times from a change to the commit of its event.
	EndToEnd daemon.Histogram
}

// Point is a part of an hour.
type Point struct {
	// Events were committed in Length.
	Events uint64
	Length time.Duration
	// Lag is the greatest lag in seconds, nil if it was not known.
	Lag *float64
}

func (p Point) rate() float64 {
	if p.Length <= 0 {
		return 0
	}
	return float64(p.Events) / p.Length.Seconds()
}

func (p Point) with(q Point) Point {
	if p.Lag == nil || q.Lag != nil && *q.Lag > *p.Lag {
		p.Lag = q.Lag
	}
	p.Events, p.Length = p.Events+q.Events, p.Length+q.Length
	return p
}

// hour gathers a stream's Hour. The first points are of a tick each. When there are too many,
// two become one, until the chart has an hour: it is never empty for long, and stays small.
type hour struct {
	last   seen
	at     time.Time
	recent []Point // of the last ticks
	points []Point
	// next is the point that is being gathered, of ticks so far; a point has perPoint.
	next            Point
	ticks, perPoint int
	// minutes are the counts at the last full minutes, oldest first.
	minutes []seen
	minute  time.Time
}

// seen are the counts of a stream at a time.
type seen struct {
	events, deadLetters uint64
	endToEnd            daemon.Histogram
}

func seenOf(v View) seen {
	s := seen{endToEnd: v.EndToEndSeconds}
	for _, k := range kindsOf(v) {
		s.events += uint64(k.Created + k.Updated + k.Deleted)
		s.deadLetters += uint64(k.DeadLetters)
	}
	return s
}

// before tells whether one of the counts is lower than another one's.
func (s seen) before(other seen) bool {
	if s.events < other.events || s.deadLetters < other.deadLetters || len(s.endToEnd.Counts) != len(other.endToEnd.Counts) {
		return true
	}
	for i, n := range s.endToEnd.Counts {
		if n < other.endToEnd.Counts[i] {
			return true
		}
	}
	return false
}

func newHour(v View, now time.Time) *hour {
	s := seenOf(v)
	return &hour{last: s, at: now, perPoint: 1, minutes: []seen{s}, minute: now}
}

// add adds a tick.
func (h *hour) add(v View, now time.Time) {
	s, length := seenOf(v), now.Sub(h.at)
	if length <= 0 {
		return
	}
	if s.before(h.last) { // An owner has gone back to the stored position, or the stream is made anew.
		h.minutes, h.minute, h.last = []seen{s}, now, s
	}
	p := Point{Events: s.events - h.last.events, Length: length}
	if v.told() {
		p.Lag = v.lag(now)
	}
	h.last, h.at = s, now
	h.recent = append(h.recent, p)
	h.recent = h.recent[max(0, len(h.recent)-nowTicks):]
	if h.ticks == 0 {
		h.next = p
	} else {
		h.next = h.next.with(p)
	}
	if h.ticks++; h.ticks >= h.perPoint {
		h.points, h.ticks = append(h.points, h.next), 0
	}
	switch {
	case len(h.points) <= maxPoints:
	case h.perPoint < hourTicks:
		h.halve()
	default:
		h.points = append(h.points[:0], h.points[1:]...)
	}
	if now.Sub(h.minute) >= time.Minute {
		h.minute = now
		h.minutes = append(h.minutes, s)
		h.minutes = append(h.minutes[:0], h.minutes[max(0, len(h.minutes)-minutes):]...)
	}
}

// halve makes one point of two; an odd last one is gathered further.
func (h *hour) halve() {
	var points []Point
	for i := 0; i+1 < len(h.points); i += 2 {
		points = append(points, h.points[i].with(h.points[i+1]))
	}
	if len(h.points)%2 == 1 {
		h.next, h.ticks = h.points[len(h.points)-1], h.perPoint
	}
	h.points, h.perPoint = points, 2*h.perPoint
}

// view is the hour for a reader.
func (h *hour) view() Hour {
	view := Hour{Points: append([]Point{}, h.points...)}
	var now Point
	for _, p := range h.recent {
		now = now.with(p)
	}
	view.Now = now.rate()
	first := h.minutes[0]
	view.DeadLetters = h.last.deadLetters - first.deadLetters
	view.EndToEnd = daemon.Histogram{Bounds: h.last.endToEnd.Bounds, Counts: make([]uint64, len(h.last.endToEnd.Counts))}
	for i, n := range h.last.endToEnd.Counts {
		view.EndToEnd.Counts[i] = n - first.endToEnd.Counts[i]
	}
	return view
}

// quantile estimates the value below which a share of the observations lies, from the bounds of
// its bucket; nil without observations. What lies above all bounds counts as the last one.
func quantile(h daemon.Histogram, share float64) *float64 {
	var total uint64
	for _, n := range h.Counts {
		total += n
	}
	if total == 0 {
		return nil
	}
	rank, below, lower := share*float64(total), 0.0, 0.0
	for i, n := range h.Counts {
		if i == len(h.Bounds) {
			break
		}
		if n > 0 && below+float64(n) >= rank {
			at := lower + (h.Bounds[i]-lower)*(rank-below)/float64(n)
			return &at
		}
		below, lower = below+float64(n), h.Bounds[i]
	}
	return &lower
}

// short rounds a figure of the chart, which need not be exact.
func short(v float64) float64 {
	const hundredths = 100
	return math.Round(v*hundredths) / hundredths
}
