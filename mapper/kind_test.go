package mapper_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// TestEveryKindHasGoldenFiles: a kind has events in golden files of each of its profiles, and
// both are told by its records.
func TestEveryKindHasGoldenFiles(t *testing.T) {
	type form struct {
		kind    mapper.Kind
		profile mapper.Profile
	}
	found, records := map[form]int{}, mapper.NewRecords()
	for _, f := range goldenFiles(t) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var g golden
		if err := json.Unmarshal(text, &g); err != nil {
			t.Fatal(f, err)
		}
		for _, e := range g.Events {
			r := mapper.Record{Value: []byte(e.Value)}
			for _, h := range e.Headers {
				r.Header(h[0], []byte(h[1]))
			}
			if kind, id := records.KindOf(r), string(records.EventID(r)); kind != e.Kind || id != e.ID {
				t.Errorf("%s: the record of the %s event %s is read as %q, %q", f, e.Kind, e.ID, kind, id)
			}
			found[form{e.Kind, r.Profile()}]++
		}
	}
	for _, kind := range mapper.Kinds() {
		for _, profile := range kind.Profiles {
			if found[form{kind.Name, profile}] == 0 {
				t.Errorf("no golden file has an event of the kind %s in the profile %s", kind.Name, profile)
			}
			delete(found, form{kind.Name, profile})
		}
		if len(kind.Operations) == 0 {
			t.Errorf("the kind %s has no operations to count its events by", kind.Name)
		}
	}
	if len(found) > 0 {
		t.Errorf("golden files have events of unknown forms: %v", found)
	}
}

// TestForeignRecords: what nothing here wrote is of no kind; its id is the member id, if
// there is one.
func TestForeignRecords(t *testing.T) {
	records := mapper.NewRecords()
	for text, id := range map[string]string{
		"":                               "",
		"no <JSON>":                      "",
		`{"id":7}`:                       "",
		`{"specversion":"1.0","id":"a"}`: "a",
		`{"type":"Other","id":"b"}`:      "b",
		`{"id":"c","type":{"code":"x"}}`: "c",
	} {
		r := mapper.Record{Value: []byte(text)}
		if kind, got := records.KindOf(r), string(records.EventID(r)); kind != "" || got != id {
			t.Errorf("%s: %q, %q", text, kind, got)
		}
	}
}
