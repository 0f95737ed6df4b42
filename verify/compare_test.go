package verify

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// fact is one entry in short: what is known of the event that a letter stands for.
type fact struct {
	event rune
	class class
	place uint64
	key   string
	at    uint64 // of an event, a cluster time; of a record, milliseconds
	// strict is the profile of a record; events have that of the seed.
	strict bool
	// export says that the event is of that kind, whose keys are those of their profiles.
	export bool
}

func idOf(event rune) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(string(event))) }

// compareFacts compares and gives the result for the one topic.
func compareFacts(t *testing.T, prepare func(*comparison), facts ...fact) Result {
	t.Helper()
	c := newComparison(t.TempDir(), []string{"events"})
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	prepare(c)
	change := c.origin(eventOrigin{Kind: "change", Namespace: "fhir.Consent_4_0_0", Profile: mapper.ProfileSeed})
	export := c.origin(eventOrigin{Kind: "export", Namespace: "fhir.ExportStatus_4_0_0", Profile: mapper.ProfileSeed})
	for _, f := range facts {
		e := entry{id: idOf(f.event), class: f.class, place: f.place, key: hashKey("main", []byte(f.key)), at: f.at, origin: change}
		if f.export {
			e.origin = export
		}
		if f.class < found {
			e.partition = int32(uint32(recordKey([]byte(f.key))))
		} else {
			e.key, e.origin = recordKey([]byte(keyOf(facts, f))), 0
			if f.strict {
				e.origin = strictRecord
			}
		}
		if err := c.add(&e); err != nil {
			t.Fatal(err)
		}
	}
	r := newReporter(c.topics, map[string][]mapper.Kind{"events": {mapper.KindChange}}, 10)
	if err := c.compare(r); err != nil {
		t.Fatal(err)
	}
	err := inBlocks(c.unexplained, func(unexplained []entry) error {
		c.judgeUnexplained(unexplained, make([]bool, len(unexplained)), r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return *r.finish(false)
}

// keyOf is a record's key: its event's, if the fact names no other.
func keyOf(facts []fact, record fact) string {
	for _, f := range facts {
		if record.key == "" && f.event == record.event && f.class < found {
			return f.key
		}
	}
	return record.key
}

func TestComparison(t *testing.T) {
	must := func(event rune, place uint64, key string) fact {
		return fact{event: event, class: required, place: place, key: key, at: 100 << 32}
	}
	may := func(event rune, place uint64, key string) fact {
		return fact{event: event, class: possible, place: place, key: key, at: 100 << 32}
	}
	exports := func(event rune, place uint64, key string) fact {
		f := must(event, place, key)
		f.export = true
		return f
	}
	there := func(event rune, offset uint64) fact { return fact{event: event, class: found, place: offset, at: 5000} }
	type counts struct{ Expected, Missing, Held, Duplicated, Unexpected, OutOfOrder, Unseen int64 }
	for _, test := range []struct {
		name    string
		facts   []fact
		want    counts
		clean   bool
		prepare func(*comparison)
	}{
		{name: "nothing", clean: true},
		{name: "all there", facts: []fact{must('a', 1, "k"), must('b', 2, "k"), there('a', 0), there('b', 1)}, want: counts{Expected: 2}, clean: true},
		{name: "missing", facts: []fact{must('a', 1, "k"), must('b', 2, "k"), there('a', 0)}, want: counts{Expected: 2, Missing: 1}},
		{name: "missing, but for what is behind an open transaction", facts: []fact{must('a', 1, "k"), must('b', 2, "k"), must('c', 3, "k"), there('a', 0), {event: 'b', class: held}, {event: 'b', class: held}, {event: 'a', class: held}, {event: 'x', class: held}}, want: counts{Expected: 3, Missing: 1, Held: 1}},
		{name: "held only", facts: []fact{must('a', 1, "k"), {event: 'a', class: held}}, want: counts{Expected: 1, Held: 1}},
		{name: "may be missing", facts: []fact{may('a', 1, "k")}, clean: true},
		{name: "may be there", facts: []fact{may('a', 1, "k"), there('a', 0)}, clean: true},
		{name: "twice", facts: []fact{must('a', 1, "k"), there('a', 0), there('a', 7), there('a', 9)}, want: counts{Expected: 1, Duplicated: 2}},
		{name: "twice of what may be there", facts: []fact{may('a', 1, "k"), there('a', 0), there('a', 7)}, want: counts{Duplicated: 1}},
		{name: "one id of two changes", facts: []fact{must('a', 1, "k"), must('a', 2, "k"), there('a', 0), there('a', 7)}, want: counts{Expected: 2}, clean: true},
		{name: "one id of two changes, one missing", facts: []fact{must('a', 1, "k"), must('a', 2, "k"), there('a', 0)}, want: counts{Expected: 2, Missing: 1}},
		{name: "foreign", facts: []fact{must('a', 1, "k"), there('a', 0), there('x', 1), there('x', 2)}, want: counts{Expected: 1, Unexpected: 2}},
		{name: "another key", facts: []fact{must('a', 1, "k"), {event: 'a', class: found, place: 3, key: "l", at: 5000}}, want: counts{Expected: 1, Missing: 1, Unexpected: 1}},
		{name: "another key beside the event", facts: []fact{may('a', 1, "k"), {event: 'a', class: found, place: 1, key: "l", at: 5000}, there('a', 3), {event: 'a', class: found, place: 4, key: "m", at: 5000}}, want: counts{Unexpected: 2}},
		{name: "another key in another profile", facts: []fact{must('a', 1, "k"), {event: 'a', class: found, place: 3, key: "l", at: 5000, strict: true}}, want: counts{Expected: 1, Missing: 1, Unexpected: 1}},
		{name: "another key in another profile, which has another", facts: []fact{exports('a', 1, "k"), {event: 'a', class: found, place: 3, key: "l", at: 5000, strict: true}}, want: counts{Expected: 1}, clean: true},
		{name: "another profile with other keys knows no order", facts: []fact{exports('a', 1, "k"), exports('b', 2, "k"), {event: 'a', class: found, place: 4, key: "l", at: 5000, strict: true}, {event: 'b', class: found, place: 3, key: "m", at: 5000, strict: true}}, want: counts{Expected: 2}, clean: true},
		{name: "twice, once in another profile", facts: []fact{must('a', 1, "k"), there('a', 0), {event: 'a', class: found, place: 3, at: 5000, strict: true}}, want: counts{Expected: 1, Duplicated: 1}},
		{name: "foreign in another profile", facts: []fact{{event: 'x', class: found, place: 3, at: 5000, strict: true}}, want: counts{Unexpected: 1}},
		{name: "a key that is not sure", facts: []fact{must('a', 1, "k"), {event: 'a', class: scanned, key: "l"}, {event: 'a', class: found, key: "m", at: 5000}}, want: counts{Expected: 1}, clean: true},
		{name: "out of order", facts: []fact{must('a', 1, "k"), must('b', 2, "k"), must('c', 3, "l"), there('a', 8), there('b', 7), there('c', 0)}, want: counts{Expected: 3, OutOfOrder: 1}},
		{name: "out of order, repaired", facts: []fact{must('a', 1, "k"), must('b', 2, "k"), there('a', 8), there('b', 7), {event: 'a', class: completed}}, want: counts{Expected: 2}, clean: true},
		{name: "a repetition does not count for the order", facts: []fact{may('a', 1, "k"), must('b', 2, "k"), there('a', 1), there('b', 2), there('a', 3)}, want: counts{Expected: 1, Duplicated: 1}},
		{name: "a repair of a foreign topic", facts: []fact{{event: 'z', class: completed}}, clean: true},
		{name: "a collection and its history tell of one version", facts: []fact{{event: 'a', class: scanned}, {event: 'a', class: scanned}, there('a', 1)}, want: counts{Expected: 1}, clean: true},
		{name: "a collection and the oplog tell of one version", facts: []fact{must('a', 1, "k"), {event: 'a', class: scanned}, there('a', 1)}, want: counts{Expected: 1}, clean: true},
		{name: "a version that was written again", facts: []fact{must('a', 1, "k"), {event: 'a', class: scanned}, there('a', 1), there('a', 2)}, want: counts{Expected: 1}, clean: true},
		{name: "a collection tells of what the oplog does not ask for", facts: []fact{may('a', 1, "k"), {event: 'a', class: scanned}}, clean: true},
		{name: "near the ends a collection does not ask", facts: []fact{{event: 'a', class: possible}, {event: 'b', class: possible}, {event: 'b', class: possible}, there('b', 1)}, clean: true},
		{name: "near the ends it is there once", facts: []fact{{event: 'b', class: possible}, {event: 'b', class: possible}, there('b', 1), there('b', 2)}, want: counts{Duplicated: 1}},
		{name: "retention of what a collection tells of", prepare: func(c *comparison) { c.earliest[0] = 101 << 32 }, facts: []fact{{event: 'a', class: scanned, at: 100 << 32}}, clean: true},
		{name: "only a collection tells of it", facts: []fact{{event: 'a', class: scanned}}, want: counts{Expected: 1, Missing: 1}},
		{name: "retention", prepare: func(c *comparison) { c.earliest[0] = 101 << 32 }, facts: []fact{must('a', 1, "k")}, clean: true},
		{name: "history may have lost it", prepare: func(c *comparison) { c.unseenBefore = 5001 }, facts: []fact{there('x', 1)}, want: counts{Unseen: 1}, clean: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.prepare == nil {
				test.prepare = func(*comparison) {}
			}
			got := compareFacts(t, test.prepare, test.facts...)
			topic := got.Topics[0]
			have := counts{topic.Expected, topic.Missing, topic.Held, topic.Duplicated, topic.Unexpected, topic.OutOfOrder, topic.Unseen}
			if diff := cmp.Diff(test.want, have); diff != "" || got.Clean != test.clean {
				t.Errorf("clean %v (-want +got):\n%s", got.Clean, diff)
			}
		})
	}
}

// What is wrong is named.
func TestComparisonNames(t *testing.T) {
	got := compareFacts(t, func(*comparison) {},
		fact{'a', required, 1, "k", 100 << 32, false, false}, fact{'b', required, 2, "k", 101 << 32, false, false}, fact{'c', required, 3, "k", 102 << 32, false, false},
		fact{'b', found, 7, "", 5000, false, false}, fact{'b', found, 9, "", 6000, false, false}, fact{'c', found, 3, "", 4000, false, false}, fact{'x', found, 4, "", 7000, false, false})
	at := func(event rune, offset int64, milli int64) RecordPlace {
		p := RecordPlace{Topic: "events", Offset: offset}
		if event == 'x' {
			p.Reason = ReasonUnknown
		}
		if milli > 0 {
			p.ID, p.Timestamp = idOf(event).String(), time.UnixMilli(milli).UTC()
		}
		return p
	}
	want := Result{
		Missing:    []MissingEvent{{ID: idOf('a').String(), Topic: "events", Kind: "change", Namespace: "fhir.Consent_4_0_0", Changed: time.Unix(100, 0).UTC()}},
		Duplicated: []RepeatedEvent{{First: at('b', 7, 5000), Again: []RecordPlace{at('b', 9, 6000)}}},
		Unexpected: []RecordPlace{at('x', 4, 7000)},
		OutOfOrder: []Disorder{{ID: idOf('c').String(), Place: at('c', 3, 0), After: idOf('b').String(), AfterOffset: 7}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Result{}, "Topics", "Streams", "Notes"), cmpopts.IgnoreUnexported(MissingEvent{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestComparisonNotesProfiles: how many records have another profile than their events is said,
// and nothing where all have the same.
func TestComparisonNotesProfiles(t *testing.T) {
	same := compareFacts(t, func(*comparison) {}, fact{event: 'a', class: required, place: 1, key: "k"}, fact{event: 'a', class: found})
	if len(same.Notes) > 0 {
		t.Errorf("notes %q", same.Notes)
	}
	other := compareFacts(t, func(*comparison) {},
		fact{event: 'a', class: required, place: 1, key: "k"}, fact{event: 'a', class: found},
		fact{event: 'b', class: required, place: 2, key: "k"}, fact{event: 'b', class: found, strict: true},
		fact{event: 'c', class: possible, place: 3, key: "k"}, fact{event: 'c', class: found, strict: true})
	if len(other.Notes) != 1 || !strings.Contains(other.Notes[0], "topic events: 2 records of change events without the profile seed, which events.change.profile asks for") {
		t.Errorf("notes %q", other.Notes)
	}
}

func TestEntriesKeepWhatTheyHold(t *testing.T) {
	e := entry{id: idOf('a'), topic: 3, class: found, place: 1 << 60, key: 1<<63 + 5, at: 1 << 50, partition: 77, origin: 65535}
	b := e.append(nil)
	var back entry
	back.read(b)
	if len(b) != entrySize || back != e {
		t.Errorf("%d bytes, %+v", len(b), back)
	}
	s := keyed{topic: 1, key: 1 << 63, place: 4, partition: 5, offset: 1 << 40, id: idOf('b')}
	b = s.append(nil)
	var again keyed
	again.read(b)
	if len(b) != keyedSize || again != s {
		t.Errorf("%d bytes, %+v", len(b), again)
	}
	earlier := keyed{topic: 1, key: 1 << 63, place: 3, partition: 9, offset: 1 << 50}
	if bytes.Compare(earlier.append(nil), s.append(nil)) >= 0 {
		t.Error("steps are not sorted by the order of the oplog")
	}
}

// A record that alone tells of its event needs no other event, and has no form but its own.
func TestOwnRecordOnly(t *testing.T) {
	for name, before := range map[string][]eventOrigin{"no event": nil, "one of another form": {{Kind: "change", Profile: mapper.ProfileStrict}}} {
		t.Run(name, func(t *testing.T) {
			c := newComparison(t.TempDir(), []string{"events"})
			defer func() {
				if err := c.close(); err != nil {
					t.Error(err)
				}
			}()
			for _, o := range before {
				c.origin(o)
			}
			record := entry{id: idOf('a'), class: found, key: recordKey([]byte("k")), at: 5000}
			for _, err := range []error{c.addOwn(&record, mapper.ProfileSeed), c.add(&record)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			r := newReporter(c.topics, map[string][]mapper.Kind{"events": {mapper.KindPersonDataChange}}, 10)
			if err := c.compare(r); err != nil {
				t.Fatal(err)
			}
			if got := r.finish(false); !got.Clean || len(got.Notes) > 0 {
				t.Errorf("got %+v", got)
			}
		})
	}
}
