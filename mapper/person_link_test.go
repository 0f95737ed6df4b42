package mapper_test

import (
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// linkedChange is the change of a golden case of person link events.
func linkedChange(t *testing.T, name string) (*mapper.Mapper, *mapper.Change) {
	t.Helper()
	cfg := everyKind()
	withPersonLink(&cfg)
	m, c := mapper.New(cfg), new(mapper.Change)
	m.Read(readChange(t, "person-link-"+name), c)
	return m, c
}

// Where only ids matter, each change that may be a link by hand has the id of its event: a repair
// must know it before it asks the history.
func TestIDOfALinkWithoutHistory(t *testing.T) {
	for _, name := range []string{"linked", "unlinked", "created"} {
		m, c := linkedChange(t, name)
		var with, without mapper.Output
		m.Append(c, personLinkSettings()["person-link-"+name].facts, &with)
		m.Append(c, mapper.Facts{IDsOnly: true}, &without)
		if len(with.Events) != 1 || len(without.Events) != 1 || with.Events[0].ID != without.Events[0].ID || len(without.Failures) > 0 {
			t.Errorf("%s: events %v, ids %v", name, with, without)
		}
	}
}

// The history is asked only about a change that may be a link by hand, and no longer than until it
// has told enough.
func TestHistoryOfALink(t *testing.T) {
	for name, may := range map[string]bool{
		"linked": true, "unlinked": true, "created": true, "created-with-two": false, "update": false, "without-uuid": false, "version-int": false,
	} {
		if _, c := linkedChange(t, name); c.MayLink() != may {
			t.Errorf("%s: it may link: %v", name, !may)
		}
	}
	for name, s := range personLinkSettings() {
		of := s.of
		if of == "" {
			of = name
		}
		_, c := linkedChange(t, of[len("person-link-"):])
		if !c.MayLink() {
			continue
		}
		out := mapOne(t, func() mapper.Config { cfg := everyKind(); withPersonLink(&cfg); return cfg }(), readChange(t, of), s.facts)
		if got, want := c.Linked(s.facts.History), len(out.Failures) == 0; got != want {
			t.Errorf("%s: the history tells enough: %v, failures %v", name, got, out.Failures)
		}
	}
}

// The kinds of a Person's changes share its links, in whichever form they are projected.
func TestLinksAreShared(t *testing.T) {
	cfg := everyKind()
	m := mapper.New(cfg)
	var c mapper.Change
	m.Read(readChange(t, "person-link-linked"), &c)
	want := []string{"Patient/e7d44aa5-d1b6-5aea-b978-7c46cbe6f4e8", "Patient/5eaab6fb-8695-5fac-83cb-0fe474afe226"}
	if p, ok := c.Person(); !ok || !slices.Equal(p.Links, want) {
		t.Errorf("%v, links %q", ok, p.Links)
	}
	n := 0
	for _, e := range m.Projection() {
		if e.Key == "person" {
			n++
			if _, err := bson.Marshal(bson.D{e}); err != nil {
				t.Error(err)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d parts of the projection have the links", n)
	}
}
