package daemon

import (
	"slices"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Action is what happened to the document behind an event.
type Action string

// The actions. A change stream's insert creates, its replace and update change.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// Tally is a kind and an action, by which events are counted.
type Tally struct {
	Kind   mapper.Kind
	Action Action
}

// tallies lists those that the mapper can produce.
func tallies() []Tally {
	var all []Tally
	for _, kind := range mapper.Kinds() {
		for _, operation := range kind.Operations {
			all = append(all, Tally{kind.Name, actionOf(operation)})
		}
	}
	return all
}

func actionOf(operation string) Action {
	switch operation {
	case "insert":
		return Create
	case "delete":
		return Delete
	}
	return Update
}

// Histogram counts observations by size.
type Histogram struct {
	// Bounds are the buckets' upper bounds, ascending, each included. They are shared:
	// read them, never write to them.
	Bounds []float64
	// Counts are the observations of each bucket alone; one more than Bounds, for what
	// lies above.
	Counts []uint64
	Sum    float64
}

func newHistogram(bounds []float64) Histogram {
	return Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds)+1)}
}

func (h *Histogram) observe(v float64) {
	i, _ := slices.BinarySearch(h.Bounds, v)
	h.Counts[i]++
	h.Sum += v
}

func (h Histogram) clone() Histogram {
	h.Counts = slices.Clone(h.Counts)
	return h
}

// secondsBounds reach from an idle stream's commit on an unloaded broker to a
// backlog of an hour.
func secondsBounds() []float64 {
	return []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}
}

func eventsBounds() []float64 { return []float64{1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000} }

func bytesBounds() []float64 {
	return []float64{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20}
}

// counting gives the counts of a batch with those before it: what is stored with its position.
// Counts of consecutive events of one sort are kept back until the sort changes.
func (p *progress) counting(b *publisher.Batch) *resumetoken.Counts {
	p.mu.Lock()
	before := p.now.Counts
	p.mu.Unlock()
	if before == nil {
		before = &resumetoken.Counts{Since: time.Now().UTC().Truncate(time.Second)}
	}
	if len(b.Events)+len(b.Failures) == 0 {
		return before
	}
	more := map[mapper.Kind]*resumetoken.KindCount{}
	of := func(kind mapper.Kind) *resumetoken.KindCount {
		if more[kind] == nil {
			more[kind] = &resumetoken.KindCount{Kind: string(kind)}
		}
		return more[kind]
	}
	for begin := 0; begin < len(b.Events); {
		first, end := &b.Events[begin], begin+1
		for end < len(b.Events) && b.Events[end].Kind == first.Kind && b.Events[end].Change.Operation == first.Change.Operation {
			end++
		}
		n := int64(end - begin)
		switch c := of(first.Kind); actionOf(first.Change.Operation) {
		case Create:
			c.Created += n
		case Update:
			c.Updated += n
		case Delete:
			c.Deleted += n
		}
		begin = end
	}
	for i := range b.Failures {
		of(b.Failures[i].Kind).DeadLetters++
	}
	sum := before
	for _, c := range more {
		sum = sum.With(&resumetoken.Counts{Since: before.Since, Kinds: []resumetoken.KindCount{*c}})
	}
	return sum
}

// count adds a batch that was committed at a time: one pass over its events, with
// the counts of consecutive events of one sort kept back until the sort changes.
func (p *progress) count(b *publisher.Batch, at time.Time) {
	p.now.Counts = b.Position.Counts
	var run Tally
	var n uint64
	size, now := 0, at.UnixMilli()
	for i := range b.Events {
		e := &b.Events[i]
		if t := (Tally{e.Kind, actionOf(e.Change.Operation)}); t != run {
			if n > 0 {
				p.now.Events[run] += n
			}
			run, n = t, 0
		}
		n++
		size += e.Size()
		if e.Change.WallTime > 0 {
			const millisecond = 1e-3
			p.now.EndToEndSeconds.observe(max(0, float64(now-e.Change.WallTime)*millisecond))
		}
	}
	if n > 0 {
		p.now.Events[run] += n
		p.now.BatchEvents.observe(float64(len(b.Events)))
		p.now.BatchBytes.observe(float64(size))
	}
	for i := range b.Failures {
		p.now.DeadLetters[b.Failures[i].Kind]++
	}
}
