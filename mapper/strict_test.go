package mapper_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// strictly is the configuration with the strict profile.
func strictly() mapper.Config {
	cfg := defaults()
	cfg.Profiles = inProfile(mapper.ProfileStrict)
	return cfg
}

// TestProfilesHaveTheSameEvents: which events a change makes, their ids and topics, and what
// makes none, do not depend on the profile; and the events of a kind with both differ.
func TestProfilesHaveTheSameEvents(t *testing.T) {
	read := func(file string) (g golden) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &g); err != nil {
			t.Fatal(file, err)
		}
		return g
	}
	both := inProfile(mapper.ProfileStrict)
	for _, f := range goldenFiles(t) {
		if filepath.Dir(f) != "testdata" {
			continue
		}
		seed, strict := read(f), read(filepath.Join("testdata/strict", filepath.Base(f)))
		for i := range min(len(seed.Events), len(strict.Events)) {
			a, b := &seed.Events[i], &strict.Events[i]
			if same := cmp.Equal(a, b); same != (both[a.Kind] == "") {
				t.Errorf("%s: that the %s event is the same in both profiles is %v", f, a.Kind, same)
			}
			for _, e := range []*goldenEvent{a, b} {
				e.Key, e.Headers, e.Value = "", nil, ""
			}
		}
		if diff := cmp.Diff(seed, strict); diff != "" {
			t.Errorf("%s (-seed +strict):\n%s", f, diff)
		}
	}
}

// TestTraceContext: the events of one request have one trace, those of others another; the span
// is the event's. Nothing else goes into it, so each path has the same.
func TestTraceContext(t *testing.T) {
	form := regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-00$`)
	traces := map[string]int{}
	for _, request := range []string{"r1", "r2", ""} {
		for _, name := range []string{"export-accepted", "export-completed", "consent-create", "access-log-patient"} {
			for _, e := range mapOne(t, strictly(), readChange(t, name), mapper.Facts{RequestID: request}).Events {
				parts := form.FindStringSubmatch(header(t, e, "traceparent"))
				if len(parts) == 0 || !strings.HasPrefix(strings.ReplaceAll(e.ID, "-", ""), parts[2]) {
					t.Fatalf("traceparent %q of the event %s", header(t, e, "traceparent"), e.ID)
				}
				traces[parts[1]]++
			}
		}
	}
	// Of r1 and r2 five events each; without a request the job's four and the Consent's; the
	// usage event has its own request each time.
	var sizes [6]int
	for _, n := range traces {
		sizes[n]++
	}
	if sizes != [6]int{1: 1, 3: 1, 4: 1, 5: 2} {
		t.Errorf("the traces have so many events: %v", traces)
	}
}

// TestStrictEventsAreValidWhateverIsStored: texts that FHIR and CloudEvents do not take in a
// place come in a form that they take.
func TestStrictEventsAreValidWhateverIsStored(t *testing.T) {
	type what struct {
		Reference  string
		Identifier struct{ Value string }
	}
	type strictAudit struct {
		Source struct {
			Site string
			Type []struct{ Code string }
		}
		Entity []struct{ What what }
	}
	long := strings.Repeat("x", 65)
	for _, test := range []struct {
		id, sourceType, request string
		want                    what
		code, site              string
	}{
		{id: "A-1.b", sourceType: "proa", request: "r", want: what{Reference: "Consent/A-1.b"}, code: "proa", site: "r"},
		{id: "a_b", sourceType: " pro \t a\n", request: "r\x01\n", want: what{Identifier: struct{ Value string }{"Consent/a_b"}}, code: "pro a", site: "r\ufffd\n"},
		{id: "a/\x02", sourceType: " ", request: "r", want: what{Identifier: struct{ Value string }{"Consent/a/\ufffd"}}, site: "r"},
		{id: long, request: "r", want: what{Identifier: struct{ Value string }{"Consent/" + long}}, site: "r"},
	} {
		raw := consent{id: test.id, extra: bson.D{{Key: "sourceType", Value: test.sourceType}}}.raw(t)
		e := mapOne(t, strictly(), raw, mapper.Facts{RequestID: test.request}).Events[0]
		a := body[strictAudit](t, e)
		code := ""
		if len(a.Source.Type) > 0 {
			code = a.Source.Type[0].Code
		}
		if len(a.Entity) != 1 || a.Entity[0].What != test.want || code != test.code || a.Source.Site != test.site || string(e.Key) != test.id {
			t.Errorf("%q: key %q, value %s", test.id, e.Key, e.Value)
		}
	}
	for source, want := range map[string]string{
		"http://acme.test/src": "http://acme.test/src", "urn:a:b": "urn:a:b", "a/b#c": "a/b#c",
		"": "", "two words": "", "caf\u00e9": "", "http://[": "", "%zz": "", "a<b": "",
		"a#b#c": "", "http://a/x#y#z": "", "http://a/[x]": "", "http://a/?q=%zz": "", "urn:%zz": "", "a%4": "", "a/%c3%A4": "a/%c3%A4",
	} {
		raw := changed(t, readChange(t, "export-accepted"), map[string]any{"export": map[string]any{"status": "accepted", "source": source}})
		e := mapOne(t, strictly(), raw, mapper.Facts{}).Events[1]
		if want == "" {
			want = "https://www.icanbwell.com/fhir-server"
		}
		if got := body[map[string]any](t, e)["source"]; got != want {
			t.Errorf("the source of a resource with %q is %q", source, got)
		}
	}
}
