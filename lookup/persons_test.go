package lookup

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	uuid1   = "e3b35308-0ad4-591b-b14f-0c3e15f45713"
	uuid2   = "aaaaaaaa-0ad4-591b-b14f-0c3e15f45713"
	master1 = "7949b297-5cb3-56bf-926b-6100dd9793b5"
)

// fakePersons answers from memory. during runs inside each look-up of masters.
type fakePersons struct {
	persons []ownPerson
	links   map[string]string // client uuid → master
	asked   [][]string
	during  func()
	err     error
	// reads are the times after which it was asked.
	reads []bson.Timestamp
}

func (f *fakePersons) after(ctx context.Context, at bson.Timestamp) (context.Context, func(), error) {
	f.reads = append(f.reads, at)
	return ctx, func() {}, nil
}

func (f *fakePersons) own(_ context.Context, uuids, ids []string) ([]ownPerson, int, error) {
	f.asked = append(f.asked, slices.Concat(uuids, ids))
	var found []ownPerson
	for _, p := range f.persons {
		if slices.Contains(uuids, p.uuid) {
			found = append(found, p)
		}
		if slices.Contains(ids, p.id) {
			found = append(found, p)
		}
	}
	return found, 1, f.err
}

func (f *fakePersons) masters(_ context.Context, uuids []string) (map[string]string, int, error) {
	found := make(map[string]string)
	for _, u := range uuids {
		if m := f.links[u]; m != "" {
			found[u] = m
		}
	}
	if f.during != nil {
		f.during()
	}
	return found, 1, nil
}

func newFakePersons() *fakePersons {
	return &fakePersons{
		persons: []ownPerson{{uuid: uuid1, id: "per-1", organization: "org-1"}},
		links:   map[string]string{uuid1: master1},
	}
}

func find(t *testing.T, p *Persons, ids ...string) map[string]Person {
	t.Helper()
	got, err := p.Find(t.Context(), ids, bson.Timestamp{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPersonsFind(t *testing.T) {
	full := Person{BwellPersonID: master1, ManagingOrganization: "org-1"}
	twins := []ownPerson{{uuid: uuid1, id: "per-1", organization: "org-1"}, {uuid: uuid2, id: "per-1", organization: "org-2"}}
	tests := []struct {
		name   string
		change func(*fakePersons)
		ids    []string
		want   map[string]Person
	}{
		{name: "none asked", want: map[string]Person{}},
		{name: "by uuid", ids: []string{uuid1}, want: map[string]Person{uuid1: full}},
		{name: "by id", ids: []string{"per-1"}, want: map[string]Person{"per-1": full}},
		{name: "by both, twice", ids: []string{uuid1, "per-1", uuid1}, want: map[string]Person{uuid1: full, "per-1": full}},
		{name: "unknown", ids: []string{uuid2, "per-2", ""}, want: map[string]Person{uuid2: {}, "per-2": {}, "": {}}},
		{
			name: "linked, but its own Person is gone", change: func(f *fakePersons) { f.persons = nil },
			ids: []string{uuid1, "per-1"}, want: map[string]Person{uuid1: {BwellPersonID: master1}, "per-1": {}},
		},
		{
			name: "no master", change: func(f *fakePersons) { f.links = nil },
			ids: []string{uuid1}, want: map[string]Person{uuid1: {ManagingOrganization: "org-1"}},
		},
		{
			name: "an id of two owners names nobody", change: func(f *fakePersons) { f.persons = twins },
			ids: []string{"per-1", uuid2}, want: map[string]Person{"per-1": {}, uuid2: {ManagingOrganization: "org-2"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reader := newFakePersons()
			if tt.change != nil {
				tt.change(reader)
			}
			p := newPersons(reader, PersonOptions{CacheSize: 10})
			if got := find(t, p, tt.ids...); !maps.Equal(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestPersonsCache(t *testing.T) {
	tests := []struct {
		name   string
		setup  func(*fakePersons)
		size   int
		id     string
		change func(*Persons)
		cached bool
	}{
		{name: "found", size: 10, cached: true},
		{name: "found by id", size: 10, id: "per-1", cached: true},
		{name: "no cache", size: 0},
		{name: "no organization is an answer", size: 10, setup: func(f *fakePersons) { f.persons[0].organization = "" }, cached: true},
		{name: "no master yet", size: 10, setup: func(f *fakePersons) { f.links = nil }},
		{name: "no own Person yet", size: 10, setup: func(f *fakePersons) { f.persons = nil }},
		{name: "another Person changed", size: 10, change: func(p *Persons) { p.Changed(uuid2, "per-2", []string{"Person/" + uuid2, "Patient/" + uuid1 + "x"}) }, cached: true},
		{name: "its own Person changed", size: 10, change: func(p *Persons) { p.Changed(uuid1, "per-1", nil) }},
		{name: "its own Person changed, found by id", size: 10, id: "per-1", change: func(p *Persons) { p.Changed(uuid1, "", nil) }},
		{name: "a Person with the same id came", size: 10, id: "per-1", change: func(p *Persons) { p.Changed(uuid2, "per-1", nil) }},
		{name: "the master dropped its links", size: 10, change: func(p *Persons) { p.Changed(master1, "master-1", nil) }},
		{name: "a Person links to it now", size: 10, change: func(p *Persons) { p.Changed(uuid2, "master-2", []string{"Patient/x", "Person/" + uuid1}) }},
		{name: "a Person links to it now, found by id", size: 10, id: "per-1", change: func(p *Persons) { p.Changed(uuid2, "master-2", []string{"Person/" + uuid1}) }},
		{name: "a Person without a uuid changed", size: 10, change: func(p *Persons) { p.Changed("", "per-9", nil) }},
		{name: "a Person was deleted", size: 10, change: func(p *Persons) { p.Forget() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reader := newFakePersons()
			if tt.setup != nil {
				tt.setup(reader)
			}
			id := tt.id
			if id == "" {
				id = uuid1
			}
			p := newPersons(reader, PersonOptions{CacheSize: tt.size})
			first := find(t, p, id)
			if tt.change != nil {
				tt.change(p)
			}
			second := find(t, p, id)
			if !maps.Equal(first, second) {
				t.Errorf("first %+v, then %+v", first, second)
			}
			if cached := len(reader.asked) == 1; cached != tt.cached {
				t.Errorf("cached = %v", cached)
			}
		})
	}
}

func TestPersonsChangedWhileReading(t *testing.T) {
	reader := newFakePersons()
	p := newPersons(reader, PersonOptions{CacheSize: 10})
	reader.during = func() {
		reader.during = nil
		reader.links[uuid1] = uuid2 // after it was read
		p.Changed(uuid2, "master-2", []string{"Person/" + uuid1})
	}
	if got := find(t, p, uuid1)[uuid1].BwellPersonID; got != master1 {
		t.Errorf("got %q", got)
	}
	if got := find(t, p, uuid1)[uuid1].BwellPersonID; got != uuid2 {
		t.Errorf("the cache kept what was read before the change: %q", got)
	}
}

// The time of a change means nothing on another cluster.
func TestPersonsAreReadAfterTheChangesOfTheirCluster(t *testing.T) {
	newest := bson.Timestamp{T: 7, I: 3}
	for same, want := range map[bool][]bson.Timestamp{true: {newest}, false: nil} {
		reader := newFakePersons()
		p := newPersons(reader, PersonOptions{SameCluster: same})
		if _, err := p.Find(t.Context(), []string{uuid1}, newest); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(reader.reads, want) {
			t.Errorf("same cluster %v: read after %v, want %v", same, reader.reads, want)
		}
	}
}

func TestPersonsErrorsAndStats(t *testing.T) {
	reader := newFakePersons()
	p := newPersons(reader, PersonOptions{CacheSize: 10})
	reader.err = errors.New("no primary")
	if _, err := p.Find(t.Context(), []string{uuid1}, bson.Timestamp{}); !errors.Is(err, reader.err) {
		t.Errorf("got %v", err)
	}
	reader.err = nil
	find(t, p, uuid1, uuid2)
	find(t, p, uuid1)
	want := PersonStats{Queries: 3, Cached: 1, Fetched: 2, NoBwellPerson: 1, NoOrganization: 1}
	if got := p.Stats(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPersonCacheIsBounded(t *testing.T) {
	c := newPersonCache(2)
	entry := func(id string) personEntry {
		return personEntry{id: id, uuid: id, person: Person{BwellPersonID: "m"}, complete: true}
	}
	c.put(entry("a"))
	c.put(entry("b"))
	c.get("a")
	c.put(entry("c")) // b was used least recently
	c.put(entry("c"))
	for id, want := range map[string]bool{"a": true, "b": false, "c": true} {
		if _, ok := c.get(id); ok != want {
			t.Errorf("%s is cached: %v", id, ok)
		}
	}
	if got := len(c.resting); got != 3 { // a, c, m
		t.Errorf("%d names are kept", got)
	}
	c.forget("m")
	if len(c.byID) != 0 || c.order.Len() != 0 || len(c.resting) != 0 {
		t.Errorf("left after forgetting: %d, %d, %d", len(c.byID), c.order.Len(), len(c.resting))
	}
}
