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

// Reason is a kind and why its events could not be produced, by which dead letters are counted.
type Reason struct {
	Kind mapper.Kind
	// Text is one of the mapper's phrases, or reasonTooLarge.
	Text string
}

// reasonTooLarge is the reason of all events that are larger than their topic takes: a dead letter
// says how large, and a label must not have that many values.
const reasonTooLarge = "the event is larger than its topic takes"

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

// KindCount returns n events of this kind and action in the form that is stored.
func (t Tally) KindCount(n uint64) resumetoken.KindCount {
	count := resumetoken.KindCount{Kind: string(t.Kind)}
	switch t.Action {
	case Create:
		count.Created = int64(n)
	case Update:
		count.Updated = int64(n)
	case Delete:
		count.Deleted = int64(n)
	}
	return count
}

// tally counts events by kind and action. Consecutive ones of the same are counted together.
func tally(events []mapper.Event) map[Tally]uint64 {
	sorts := map[Tally]uint64{}
	for begin := 0; begin < len(events); {
		first, end := &events[begin], begin+1
		for end < len(events) && events[end].Kind == first.Kind && events[end].Change.Operation == first.Change.Operation {
			end++
		}
		sorts[Tally{first.Kind, actionOf(first.Change.Operation)}] += uint64(end - begin)
		begin = end
	}
	return sorts
}

// counting adds a batch, by the tally of its events, to the counts before it. The sum is stored
// with the batch's position.
func (p *progress) counting(b *publisher.Batch, sorts map[Tally]uint64) *resumetoken.Counts {
	p.mu.Lock()
	sum := p.now.Counts
	p.mu.Unlock()
	if sum == nil {
		sum = &resumetoken.Counts{Since: time.Now().UTC().Truncate(time.Second)}
	}
	var more []resumetoken.KindCount
	for t, n := range sorts {
		more = append(more, t.KindCount(n))
	}
	for i := range b.Failures {
		more = append(more, resumetoken.KindCount{Kind: string(b.Failures[i].Kind), DeadLetters: 1})
	}
	if len(more) == 0 {
		return sum
	}
	return sum.With(&resumetoken.Counts{Since: sum.Since, Kinds: more})
}

// count adds a batch that was committed at a time, by the tally of its events.
func (p *progress) count(b *publisher.Batch, sorts map[Tally]uint64, at time.Time) {
	p.now.Counts = b.Position.Counts
	p.newest.add(b.Events, at)
	size, now := 0, at.UnixMilli()
	for i := range b.Events {
		e := &b.Events[i]
		size += e.Size()
		if e.Change.WallTime > 0 {
			const millisecond = 1e-3
			p.now.EndToEndSeconds.observe(max(0, float64(now-e.Change.WallTime)*millisecond))
		}
	}
	for t, n := range sorts {
		p.now.Events[t] += n
	}
	p.countResources(b.Events)
	if len(b.Events) > 0 {
		p.now.BatchEvents.observe(float64(len(b.Events)))
		p.now.BatchBytes.observe(float64(size))
	}
	for i := range b.Failures {
		f := &b.Failures[i]
		p.now.DeadLetters[f.Kind]++
		reason := Reason{f.Kind, f.Reason}
		if f.TooLarge {
			reason.Text = reasonTooLarge
		}
		p.now.Reasons[reason]++
	}
}

// countResources counts events by resource type. Consecutive ones of a collection are counted
// together.
func (p *progress) countResources(events []mapper.Event) {
	for begin := 0; begin < len(events); {
		collection, end := events[begin].Change.Collection, begin+1
		for end < len(events) && events[end].Change.Collection == collection {
			end++
		}
		p.now.Resources[mapper.ResourceOf(collection)] += uint64(end - begin)
		begin = end
	}
}
