package daemon

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// PersonLinks finds the Persons that link to patients.
type PersonLinks interface {
	// Find hands over the Persons that link to any of the patients: the links as they were at the
	// end of a window, in seconds. after is a time of the cluster that the answer includes.
	Find(ctx context.Context, patients []string, end uint32, after bson.Timestamp, each func(lookup.LinkedPerson)) error
}

const (
	// maxOpen is how many patients and persons a window has at most. With more it ends early, and
	// a further part of it begins: by their number, so that each reading cuts it at one place.
	maxOpen = 1_000_000
	// maxLinked is how many patients one look-up of Persons asks for: it bounds the query, as in
	// other look-ups.
	maxLinked = 2000
	// maxFailureBytes bounds the failures of a window, which ends early with more.
	maxFailureBytes = 128 << 20
)

// windows gathers the changes of one window after the other. A window that is read anew becomes
// the same events.
type windows struct {
	mapper *mapper.Mapper
	links  PersonLinks
	open   bool
	window mapper.Window
	// patients and persons have the types that changed, in the order of their first change.
	patients, persons map[string]typeList
	lists             typeLists
	// unsure are persons that only links tell of which may be others later.
	unsure   map[string]bool
	failures []mapper.Failure
	// failureBytes is about the memory of the failures, whose keys and tokens may have megabytes.
	failureBytes int
	// answered, if set, is called after each look-up.
	answered func()
	// last is the last change that counts.
	last mapper.ChangeName
	most int
	out  mapper.Output
}

func newWindows(m *mapper.Mapper, links PersonLinks, most int) *windows {
	w := &windows{mapper: m, links: links, most: most}
	w.clear()
	return w
}

// clear begins anew; maps are not kept, since a large window would hold its memory.
func (w *windows) clear() {
	w.open, w.patients, w.persons, w.lists = false, map[string]typeList{}, map[string]typeList{}, newTypeLists()
	w.unsure, w.failures, w.failureBytes, w.last = map[string]bool{}, nil, 0, mapper.ChangeName{}
}

// ends tells whether a time, in seconds, lies after the open window.
func (w *windows) ends(second uint32) bool { return w.open && second >= w.window.End }

// full tells whether the window ends early.
func (w *windows) full() bool {
	return len(w.patients)+len(w.persons)+len(w.failures) >= w.most || w.failureBytes >= maxFailureBytes
}

// add adds a change, and begins a window with it if none is open. It is false if the change
// concerns nobody.
func (w *windows) add(c *mapper.Change, next mapper.Window) bool {
	w.out.Touches, w.out.Failures = w.out.Touches[:0], nil
	w.mapper.Append(c, mapper.Facts{}, &w.out)
	if len(w.out.Touches)+len(w.out.Failures) == 0 {
		return false
	}
	if !w.open {
		w.open, w.window = true, next
	}
	for _, t := range w.out.Touches {
		of := w.patients
		if t.Person {
			of = w.persons
		}
		list, known := of[string(t.UUID)]
		if with := w.lists.with(list, t.Type); with != list || !known {
			of[string(t.UUID)] = with
		}
	}
	w.last = c.Name // What was read with it is not kept.
	w.last.DocumentKey, w.last.Token = nil, slices.Clone(c.Name.Token)
	for _, f := range w.out.Failures {
		f.Change.DocumentKey, f.Change.Token = slices.Clone(c.Name.DocumentKey), w.last.Token
		w.failures, w.failureBytes = append(w.failures, f), w.failureBytes+sizeOf(f)
	}
	return true
}

// concerned is a patient or person of a window.
type concerned struct {
	place
	list typeList
}

// place is the place of an event among those of its window.
type place struct {
	kind mapper.Kind
	uuid string
}

// placeOf reads a place as a position has it. Without text it is before all others.
func placeOf(text string) place {
	kind, uuid, _ := strings.Cut(text, "/")
	return place{mapper.Kind(kind), uuid}
}

func (p place) String() string { return string(p.kind) + "/" + p.uuid }

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.kind, other.kind), cmp.Compare(p.uuid, other.uuid))
}

// sizeOf is about what a failure takes in memory, and in its dead letter.
func sizeOf(f mapper.Failure) int {
	const besides = 256
	return len(f.Change.DocumentKey) + len(f.Change.Token) + besides
}

// afterKinds is what the places of failures have in place of a kind: it comes after all of them.
const afterKinds mapper.Kind = "~"

// failed are the places of the failures: after those of all events, by their changes' times, of
// which the changes of a transaction have one.
func (w *windows) failed() iter.Seq2[int, place] {
	return func(yield func(int, place) bool) {
		var at bson.Timestamp
		n := 0
		for i, f := range w.failures {
			if n++; f.Change.ClusterTime != at {
				at, n = f.Change.ClusterTime, 0
			}
			if !yield(i, place{afterKinds, fmt.Sprintf("%08x%08x/%08x", at.T, at.I, n)}) {
				return
			}
		}
	}
}

// all are the patients and persons of the window, in a fixed order, with the persons that link to
// its patients.
func (w *windows) all(ctx context.Context, after bson.Timestamp) ([]concerned, error) {
	if err := w.link(ctx, after); err != nil {
		return nil, err
	}
	all := make([]concerned, 0, len(w.patients)+len(w.persons))
	for uuid, list := range w.patients {
		all = append(all, concerned{place{mapper.KindPatientDataChange, uuid}, list})
	}
	for uuid, list := range w.persons {
		all = append(all, concerned{place{mapper.KindPersonDataChange, uuid}, list})
	}
	slices.SortFunc(all, func(a, b concerned) int { return a.compare(b.place) })
	return all, nil
}

// link adds what changed of patients to the persons that link to them.
func (w *windows) link(ctx context.Context, after bson.Timestamp) error {
	if w.links == nil || !w.mapper.LinksPersons() || len(w.patients) == 0 {
		return nil
	}
	patients := make([]string, 0, len(w.patients))
	for uuid := range w.patients {
		patients = append(patients, uuid)
	}
	slices.Sort(patients)
	linked := map[string]bool{} // Two look-ups may find one person.
	for chunk := range slices.Chunk(patients, maxLinked) {
		err := w.links.Find(ctx, chunk, w.window.End, after, func(p lookup.LinkedPerson) {
			if linked[p.UUID] {
				return
			}
			linked[p.UUID] = true
			list, touched := w.persons[p.UUID]
			before := list
			for _, patient := range p.Patients {
				if types, ok := w.patients[patient]; ok {
					list = w.lists.joined(list, types)
				}
			}
			if list != before {
				w.persons[p.UUID] = list
			}
			if !touched && !p.Lasting {
				w.unsure[p.UUID] = true
			}
		})
		if err != nil {
			return refused(fmt.Errorf("look persons up by their links: %w", err))
		}
		if w.answered != nil {
			w.answered()
		}
	}
	return nil
}

// append appends the event of a patient or person of the window.
func (w *windows) append(c concerned, out *mapper.Output) {
	w.mapper.AppendDataChange(w.window, w.change(c), out)
}

func (w *windows) change(c concerned) *mapper.DataChange {
	unsure := c.kind == mapper.KindPersonDataChange && w.unsure[c.uuid]
	return &mapper.DataChange{Kind: c.kind, UUID: c.uuid, Types: w.lists.types(c.list), Last: w.last, Unsure: unsure}
}

// typeList is the number of a list of resource types; 0 is the empty one. Patients have few
// different lists, so each list is kept once.
type typeList uint32

type typeLists struct {
	names []string // of types
	lists [][]string
	next  map[extended]typeList
}

type extended struct {
	list typeList
	typ  uint8
}

func newTypeLists() typeLists {
	return typeLists{lists: make([][]string, 1), next: map[extended]typeList{}}
}

// with is a list with a type at its end, unless the list has the type.
func (l *typeLists) with(list typeList, name string) typeList {
	if slices.Contains(l.lists[list], name) {
		return list
	}
	typ := slices.Index(l.names, name)
	if typ < 0 {
		typ = len(l.names)
		l.names = append(l.names, name)
	}
	key := extended{list, uint8(typ)} // The table has 72 types.
	longer, ok := l.next[key]
	if !ok {
		longer = typeList(len(l.lists))
		l.lists = append(l.lists, append(slices.Clone(l.lists[list]), name))
		l.next[key] = longer
	}
	return longer
}

// joined is a list with the types of another one at its end.
func (l *typeLists) joined(list, other typeList) typeList {
	for _, name := range l.lists[other] {
		list = l.with(list, name)
	}
	return list
}

func (l *typeLists) types(list typeList) []string { return l.lists[list] }
