package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// recordedMerge is when a real server wrote what a $merge writes, in milliseconds after the
// first main document.
type recordedMerge struct {
	Resources int   `json:"resources"`
	Version   int   `json:"version"`
	Main      []int `json:"main"`
	History   int   `json:"history"`
}

func recordedMerges(t *testing.T) []recordedMerge {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "testdata", "fhir-server", "merges.json"))
	if err != nil {
		t.Fatal(err)
	}
	var merges []recordedMerge
	if err := json.Unmarshal(data, &merges); err != nil {
		t.Fatal(err)
	}
	return merges
}

// play writes a $merge at the recorded times.
func (m recordedMerge) play(i *installation, prefix string) []fhirserver.Resource {
	i.t.Helper()
	at := make([]time.Duration, len(m.Main))
	for k, ms := range m.Main {
		at[k] = time.Duration(ms) * time.Millisecond
	}
	merge, err := i.fhir.Merge(i.ctx, prefix, m.Resources, at...)
	i.check(err)
	i.check(merge.History(i.ctx, time.Duration(m.History)*time.Millisecond))
	return merge.Resources()
}

// The events of a $merge carry its request id, at the pace of a real server and with no
// setting but the defaults.
func TestMergeAtItsRecordedPace(t *testing.T) {
	// One of each size, those of 500 are for the long form.
	merges := slices.CompactFunc(recordedMerges(t), func(a, b recordedMerge) bool { return a.Resources == b.Resources })
	merges = slices.DeleteFunc(merges, func(m recordedMerge) bool { return m.Resources > 200 })
	install(t, fhirserver.Options{}).merges(merges)
}

// TestSoakMergeAtItsRecordedPace plays all of them.
func TestSoakMergeAtItsRecordedPace(t *testing.T) {
	if os.Getenv("FHIR_CDC_TEST_SOAK") == "" {
		t.Skip("takes minutes")
	}
	i := install(t, fhirserver.Options{})
	i.ctx = t.Context()
	i.merges(recordedMerges(t))
}

// plays is how often a $merge is played at most: a machine that is held up for a second plays
// another pace than the recorded one.
const plays = 5

func (i *installation) merges(merges []recordedMerge) {
	t := i.t
	i.check(i.fhir.CreateIndexes(i.ctx))
	i.start()
	reader := i.reader()
	var all []string
	for n, m := range merges {
		for play := 1; ; play++ {
			requests := map[string]string{}
			for _, r := range m.play(i, fmt.Sprintf("m%d-%d", n, play)) {
				requests[changeID(r)] = r.RequestID
				all = append(all, changeID(r))
			}
			with := 0
			for _, r := range i.until(reader, all...) {
				if request, ok := requests[r.EventID()]; ok && r.Headers.Get("b3") == request {
					with++
				}
			}
			t.Logf("$merge of %d: %d of %d events with their request id", m.Resources, with, len(requests))
			if with*100 >= len(requests)*99 {
				break
			}
			if play == plays {
				t.Errorf("of %d events of a $merge only %d have their request id, at the best of times", len(requests), with)
				break
			}
		}
	}
	i.exactly(reader, all...)
}

// While a $merge waits for its history the events of others go ahead, and whatever ends
// the daemon then, nothing is lost, nothing comes twice, and the ids are there.
func TestOthersGoAheadOfAMerge(t *testing.T) {
	// Every life reads the $merge again, and its age counts: the wait outlasts all of the test.
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_FACTS_WAIT", "30m")
	i.check(i.fhir.CreateIndexes(i.ctx))
	d := i.start()
	reader := i.reader()
	merge, err := i.fhir.Merge(i.ctx, "merged", 200)
	i.check(err)
	var others []fhirserver.Resource
	alone := func(id string) {
		others = append(others, i.consent(id))
		i.exactly(reader, changeIDs(others...)...)
	}
	alone("before-the-kill")
	i.check(d.Kill())
	i.wait(d)
	d = i.start()
	alone("after-the-kill")
	behind, err := i.fhir.ReplaceConsent(i.ctx, merge.Resources()[7])
	i.check(err)
	others = append(others, i.consent("after-a-second-version"))
	i.exactly(reader, changeIDs(others...)...)
	i.stop(d)
	d = i.start()
	alone("after-the-stop")
	i.stop(d)
	i.with("FHIR_CDC_STREAMS", "[{name: consents, resources: [Consent], slices: 2}]").start()
	alone("of-other-streams")

	i.check(merge.History(i.ctx, 0))
	all := append(slices.Clone(others), merge.Resources()...)
	records := i.exactly(reader, changeIDs(append(all, behind)...)...)
	requests := map[string]string{}
	for _, r := range append(all, behind) {
		requests[changeID(r)] = r.RequestID
	}
	for _, r := range records {
		if r.Headers.Get("b3") != requests[r.EventID()] {
			t.Errorf("event %s of %s is without its request id", r.EventID(), r.Key)
		}
	}
	versions := []string{changeID(merge.Resources()[7]), changeID(behind)}
	if got := byKey(records)[behind.ID]; !slices.Equal(got, versions) {
		t.Errorf("the versions of one resource came as %q, want %q", got, versions)
	}
}

// At least once: what came without its request, because its history was late, comes again
// after a crash with it. Nothing else of it is different.
func TestRepeatedWithALateFact(t *testing.T) {
	i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).with(
		"FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_INTERVAL", "1h", "FHIR_CDC_FACTS_WAIT", "100ms")
	i.check(i.fhir.CreateIndexes(i.ctx))
	d := i.start()
	reader := i.reader()
	merge, err := i.fhir.Merge(i.ctx, "late", 2)
	i.check(err)
	ids := changeIDs(merge.Resources()...)
	i.exactly(reader, ids...)
	i.check(merge.History(i.ctx, 0))
	i.check(d.Kill())
	i.wait(d)
	i.start()
	last := i.consent("last")
	records := i.until(reader, changeID(last))
	records = harness.Of(records, i.site.Topics.Change)
	for _, r := range merge.Resources() {
		var copies []harness.Record
		for _, c := range records {
			if c.EventID() == changeID(r) {
				copies = append(copies, c)
			}
		}
		if len(copies) != 2 {
			t.Fatalf("event %s came %d times", changeID(r), len(copies))
		}
		first, second := copies[0], copies[1]
		if got := second.Headers.Get("b3"); got != r.RequestID || site(t, string(second.Value)) != any(r.RequestID) || site(t, string(first.Value)) != nil {
			t.Errorf("the repetition has the request %q, want %q, which the first had not", got, r.RequestID)
		}
		if first.Key != second.Key || withoutSite(t, first.Value) != withoutSite(t, second.Value) {
			t.Errorf("the repetition differs:\n%s\n%s", first.Value, second.Value)
		}
	}
}

// withoutSite is a change event without source.site.
func withoutSite(t *testing.T, value []byte) string {
	t.Helper()
	var event map[string]any
	if err := json.Unmarshal(value, &event); err != nil {
		t.Fatal(err)
	}
	if source, ok := event["source"].(map[string]any); ok {
		delete(source, "site")
	}
	text, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
