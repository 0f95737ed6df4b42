package verify

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// comparison compares the events that must be in topics with the records that are
// there. It keeps both in sorted files, so its memory does not grow.
type comparison struct {
	topics  []string
	origins []eventOrigin
	// keyByProfile has the kinds whose events have another key in each profile.
	keyByProfile map[string]bool
	dir          string
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
	// unexplained are records of events that MongoDB does not know.
	unexplained *sorter
}

// eventOrigin is where events come from, and their form.
type eventOrigin struct {
	Kind, Namespace string
	Profile         mapper.Profile
}

// The memory that sorted records take until they go to the file.
const (
	entryMemory = 48 << 20
	stepMemory  = 24 << 20
	fewMemory   = 4 << 20
)

func newComparison(dir string, topics []string) *comparison {
	keyByProfile := map[string]bool{}
	for _, kind := range mapper.Kinds() {
		keyByProfile[string(kind.Name)] = kind.KeyByProfile
	}
	return &comparison{
		dir: dir, topics: topics, keyByProfile: keyByProfile, earliest: make([]uint64, len(topics)), entries: newSorter(dir, entrySize, entryMemory),
		missing: newSorter(dir, entrySize, fewMemory), unexplained: newSorter(dir, entrySize, fewMemory),
	}
}

// add notes an entry; several goroutines may.
func (c *comparison) add(e *entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buffer = e.append(c.buffer[:0])
	return c.entries.add(c.buffer)
}

// addOwn notes the event that a record itself tells of, in the record's own form.
func (c *comparison) addOwn(record *entry, profile mapper.Profile) error {
	return c.add(&entry{
		id: record.id, topic: record.topic, class: possible, partition: int32(uint32(record.key)), origin: c.origin(eventOrigin{Profile: profile}),
	})
}

// origin is the number of a namespace and kind.
func (c *comparison) origin(o eventOrigin) uint16 {
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
	errs := []error{c.entries.close(), c.missing.close(), c.unexplained.close()}
	if c.steps != nil {
		errs = append(errs, c.steps.close())
	}
	return errors.Join(errs...)
}

// evidence is all that is known of one event in one topic.
type evidence struct {
	// expected and known count changes of the oplog, scanned and near (0 or 1) versions of
	// collections; known and near ones are not asked for. found counts the records, held
	// those that no consumer sees yet.
	expected, known, scanned, near, found, held int
	// first is the oplog's, or a collection's, entry; record the first record's.
	first, record entry
	extra         []entry // records beyond those that may be there; a few of them
	completed     bool
	// strange are records with the event's id and another key: they are not the event.
	strange  int
	stranger []entry // a few of them
	// unsure says that oplog and collections do not agree on the event's key.
	unsure bool
	// other counts the records of another profile than the event's. rekeyed says that the key of
	// one is that of its profile.
	other   int
	rekeyed bool
}

// compare sorts all entries and reports the faults among them.
func (c *comparison) compare(report *reporter) error {
	c.steps = newSorter(c.dir, keyedSize, stepMemory)
	var ev evidence
	var e entry
	begun := false
	err := c.entries.each(func(record []byte) error {
		e.read(record)
		if begun && (e.id != ev.first.id || e.topic != ev.first.topic) {
			if err := c.judge(&ev, report); err != nil {
				return err
			}
			ev = evidence{extra: ev.extra[:0], stranger: ev.stranger[:0]}
			begun = false
		}
		if !begun {
			ev.first, begun = e, true
		}
		c.note(&ev, &e)
		return nil
	})
	if err == nil && begun {
		err = c.judge(&ev, report)
	}
	if err != nil {
		return err
	}
	if err := c.entries.close(); err != nil {
		return fmt.Errorf("sort: %w", err)
	}
	report.noteProfiles()
	return c.order(report)
}

// keptExtras bounds the records of one event that the result names.
const keptExtras = 8

func (c *comparison) note(ev *evidence, e *entry) {
	if e.class < found && e.partition != ev.first.partition {
		ev.unsure = true
	}
	switch e.class {
	case required:
		if e.at < c.earliest[e.topic] {
			ev.known++
		} else {
			ev.expected++
		}
	case scanned:
		if e.at < c.earliest[e.topic] {
			ev.near = 1
		} else {
			ev.scanned = 1
		}
	case possible:
		if e.place == 0 {
			ev.near = 1
		} else {
			ev.known++
		}
	case found:
		if ev.first.class < found { // else MongoDB does not know the event
			known, rekeyed := c.origins[ev.first.origin], false
			if (known.Profile == mapper.ProfileStrict) != (e.origin == strictRecord) {
				ev.other++
				rekeyed = c.keyByProfile[known.Kind]
				ev.rekeyed = ev.rekeyed || rekeyed
			}
			if !ev.unsure && !rekeyed && int32(uint32(e.key)) != ev.first.partition {
				if ev.strange++; len(ev.stranger) < keptExtras {
					ev.stranger = append(ev.stranger, *e)
				}
				return
			}
		}
		if ev.found++; ev.found == 1 {
			ev.record = *e
		} else if len(ev.extra) < keptExtras {
			ev.extra = append(ev.extra, *e)
		}
	case completed:
		ev.completed = true
	case held:
		ev.held++
	}
}

// judge reports the faults of one event.
func (c *comparison) judge(ev *evidence, report *reporter) error {
	must := ev.expected
	if ev.expected+ev.known == 0 {
		must = ev.scanned // the oplog knows better whether it is asked for
	}
	// A version that a collection tells of may have been written once more, as it was,
	// in the time of the oplog.
	may := max(ev.expected+ev.known+ev.scanned, ev.near)
	switch {
	case may == 0 && ev.found == 0:
		return nil // only a completion tells of it
	case may == 0:
		return c.keepUnexplained(ev)
	}
	c.strangers(ev, report)
	report.otherProfile(ev.first.topic, c.origins[ev.first.origin], ev.other)
	report.expected(ev.first.topic, must)
	// What waits for a transaction to end is not missing: published again, it would be
	// there twice in the end.
	waiting := max(0, min(must-ev.found, ev.held))
	report.held(ev.first.topic, waiting)
	for range must - ev.found - waiting {
		report.missing(c.name(&ev.first))
		if err := c.missing.add(ev.first.append(c.buffer[:0])); err != nil {
			return err
		}
	}
	if ev.found > may {
		report.duplicated(ev.first.topic, ev.found-may, c.place(&ev.record), c.extras(ev))
	}
	if ev.found == 0 || ev.expected+ev.known > 1 || ev.completed || ev.first.place == 0 || ev.rekeyed {
		return nil
	}
	s := keyed{topic: ev.first.topic, key: ev.first.key, place: ev.first.place, partition: ev.record.partition, offset: ev.record.place, id: ev.first.id}
	return c.steps.add(s.append(c.buffer[:0]))
}

// strangers reports the records with an event's id that are not the event.
func (c *comparison) strangers(ev *evidence, report *reporter) {
	for i := range ev.strange {
		place := c.place(&ev.stranger[min(i, len(ev.stranger)-1)])
		place.Reason = ReasonOtherKey
		report.unexpected(ev.first.topic, 1, place)
	}
}

func (c *comparison) extras(ev *evidence) []RecordPlace {
	places := make([]RecordPlace, len(ev.extra))
	for i := range ev.extra {
		places[i] = c.place(&ev.extra[i])
	}
	return places
}

// keepUnexplained keeps the first record of an event that MongoDB does not know, for a second look,
// with the number of its records in the place of the key.
func (c *comparison) keepUnexplained(ev *evidence) error {
	ev.record.key = uint64(ev.found)
	return c.unexplained.add(ev.record.append(c.buffer[:0]))
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

// judgeUnexplained reports the records that the first look does not explain, but for those that
// a second look has cleared.
func (c *comparison) judgeUnexplained(unexplained []entry, cleared []bool, report *reporter) {
	for i := range unexplained {
		e := &unexplained[i]
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
