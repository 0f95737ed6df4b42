package replay

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// comparison compares the events that must be in topics with the records that are
// there. All it has seen is in sorted files, so its memory does not grow.
type comparison struct {
	topics  []string
	origins []Origin
	dir     string
	// earliest is, of each topic, the cluster time before which a missing event may have
	// been deleted by the topic's retention: it is not asked for.
	earliest []uint64
	// unseenBefore is the time of records before which it is not known which events
	// there were, in milliseconds: history may have lost versions.
	unseenBefore int64

	mu      sync.Mutex
	entries *sorter
	buffer  []byte
	// missing are the ids of missing events in order, one after the other.
	missing *sorter
	steps   *sorter
	// strays are records of events that no source knows.
	strays *sorter
}

// Origin is where events come from.
type Origin struct{ Kind, Namespace string }

// The memory that sorted records take until they go to the file.
const (
	entryMemory = 48 << 20
	stepMemory  = 24 << 20
	fewMemory   = 4 << 20
)

func newComparison(dir string, topics []string) *comparison {
	return &comparison{
		dir: dir, topics: topics, earliest: make([]uint64, len(topics)), entries: newSorter(dir, entrySize, entryMemory),
		missing: newSorter(dir, entrySize, fewMemory), strays: newSorter(dir, entrySize, fewMemory),
	}
}

// add notes an entry; several goroutines may.
func (c *comparison) add(e *entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buffer = e.append(c.buffer[:0])
	return c.entries.add(c.buffer)
}

// origin is the number of a namespace and kind.
func (c *comparison) origin(o Origin) uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, known := range c.origins {
		if known == o {
			return uint16(i)
		}
	}
	c.origins = append(c.origins, o)
	return uint16(len(c.origins) - 1)
}

func (c *comparison) close() error {
	errs := []error{c.entries.close(), c.missing.close(), c.strays.close()}
	if c.steps != nil {
		errs = append(errs, c.steps.close())
	}
	return errors.Join(errs...)
}

// group is all that is known of one event in one topic.
type group struct {
	// expected and known are what the oplog tells, scanned and near (0 or 1) what
	// collections tell: near of it is not asked for. found are the records,
	// held those that no consumer sees yet.
	expected, known, scanned, near, found, held int
	// first is the oplog's, or a collection's, entry; record the first record's.
	first, record entry
	extra         []entry // records beyond those that may be there; a few of them
	repaired      bool
	// strange are records with the event's id and another key: they are not the event.
	strange  int
	stranger []entry // a few of them
	// unsure says that what tells of the event does not agree on its key.
	unsure bool
}

// compare sorts all entries and finds what is wrong of them.
func (c *comparison) compare(report *reporter) error {
	c.steps = newSorter(c.dir, keyedSize, stepMemory)
	var g group
	var e entry
	begun := false
	err := c.entries.each(func(record []byte) error {
		e.read(record)
		if begun && (e.id != g.first.id || e.topic != g.first.topic) {
			if err := c.judge(&g, report); err != nil {
				return err
			}
			g = group{extra: g.extra[:0], stranger: g.stranger[:0]}
			begun = false
		}
		if !begun {
			g.first, begun = e, true
		}
		c.note(&g, &e)
		return nil
	})
	if err == nil && begun {
		err = c.judge(&g, report)
	}
	if err != nil {
		return err
	}
	if err := c.entries.close(); err != nil {
		return fmt.Errorf("sort: %w", err)
	}
	return c.order(report)
}

// keptExtras bounds how many records of one event are told of.
const keptExtras = 8

func (c *comparison) note(g *group, e *entry) {
	if e.class < found && e.partition != g.first.partition {
		g.unsure = true
	}
	switch e.class {
	case required:
		if e.at < c.earliest[e.topic] {
			g.known++
		} else {
			g.expected++
		}
	case scanned:
		if e.at < c.earliest[e.topic] {
			g.near = 1
		} else {
			g.scanned = 1
		}
	case possible:
		if e.place == 0 {
			g.near = 1
		} else {
			g.known++
		}
	case found:
		if g.first.class < found && !g.unsure && int32(uint32(e.key)) != g.first.partition {
			if g.strange++; len(g.stranger) < keptExtras {
				g.stranger = append(g.stranger, *e)
			}
			return
		}
		if g.found++; g.found == 1 {
			g.record = *e
		} else if len(g.extra) < keptExtras {
			g.extra = append(g.extra, *e)
		}
	case repaired:
		g.repaired = true
	case held:
		g.held++
	}
}

// judge says what is wrong with one event, if anything.
func (c *comparison) judge(g *group, report *reporter) error {
	must := g.expected
	if g.expected+g.known == 0 {
		must = g.scanned // the oplog knows better whether it is asked for
	}
	// A version that a collection tells of may have been written once more, as it was,
	// in the time of the oplog.
	may := max(g.expected+g.known+g.scanned, g.near)
	switch {
	case may == 0 && g.found == 0:
		return nil // only a repair tells of it
	case may == 0:
		return c.stray(g)
	}
	c.strangers(g, report)
	report.expected(g.first.topic, must)
	// What waits for a transaction to end is not missing: published again, it would be
	// there twice in the end.
	waiting := max(0, min(must-g.found, g.held))
	report.held(g.first.topic, waiting)
	for range must - g.found - waiting {
		report.missing(c.name(&g.first))
		if err := c.missing.add(g.first.append(c.buffer[:0])); err != nil {
			return err
		}
	}
	if g.found > may {
		report.duplicated(g.first.topic, g.found-may, c.place(&g.record), c.extras(g))
	}
	if g.found == 0 || g.expected+g.known > 1 || g.repaired || g.first.place == 0 {
		return nil
	}
	s := keyed{topic: g.first.topic, key: g.first.key, place: g.first.place, partition: g.record.partition, offset: g.record.place, id: g.first.id}
	return c.steps.add(s.append(c.buffer[:0]))
}

// strangers reports the records with an event's id that are not the event.
func (c *comparison) strangers(g *group, report *reporter) {
	for i := range g.strange {
		place := c.place(&g.stranger[min(i, len(g.stranger)-1)])
		place.Reason = ReasonOtherKey
		report.unexpected(g.first.topic, 1, place)
	}
}

func (c *comparison) extras(g *group) []RecordPlace {
	places := make([]RecordPlace, len(g.extra))
	for i := range g.extra {
		places[i] = c.place(&g.extra[i])
	}
	return places
}

// stray keeps the first record of an event that no source knows, for a second look,
// with the number of its records in the place of the key.
func (c *comparison) stray(g *group) error {
	g.record.key = uint64(g.found)
	return c.strays.add(g.record.append(c.buffer[:0]))
}

// order checks that the events of each key came in the order of the oplog.
func (c *comparison) order(report *reporter) error {
	var s, last keyed
	begun := false
	err := c.steps.each(func(record []byte) error {
		s.read(record)
		same := begun && s.topic == last.topic && s.key == last.key && s.partition == last.partition
		if same && s.offset < last.offset {
			report.outOfOrder(s.topic, Disorder{
				ID: s.id.String(), Place: RecordPlace{Topic: c.topics[s.topic], Partition: s.partition, Offset: int64(s.offset)},
				After: last.id.String(), AfterOffset: int64(last.offset),
			})
			return nil // the later one stays the measure
		}
		last, begun = s, true
		return nil
	})
	if err != nil {
		return err
	}
	return c.steps.close()
}

// judgeStrays reports the records that no source knows, but for those that a second
// look has cleared.
func (c *comparison) judgeStrays(strays []entry, cleared []bool, report *reporter) {
	for i := range strays {
		e := &strays[i]
		switch {
		case cleared[i]:
		case int64(e.at) < c.unseenBefore:
			report.unseen(e.topic, int64(e.key))
		default:
			place := c.place(e)
			place.Reason = ReasonUnknown
			report.unexpected(e.topic, int64(e.key), place)
		}
	}
}

func (c *comparison) name(e *entry) MissingEvent {
	o := c.origins[e.origin]
	return MissingEvent{ID: e.id.String(), Topic: c.topics[e.topic], Kind: o.Kind, Namespace: o.Namespace, Changed: unpackTime(e.at), topic: e.topic}
}

func (c *comparison) place(e *entry) RecordPlace {
	return RecordPlace{
		ID: e.id.String(), Topic: c.topics[e.topic], Partition: e.partition, Offset: int64(e.place),
		Timestamp: time.UnixMilli(int64(e.at)).UTC(),
	}
}
