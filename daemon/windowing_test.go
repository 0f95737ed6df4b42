package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// session is what happens in a scripted cluster.
type session struct {
	changes []scripted
	chunks  []watcher.Chunk
	links   map[string][]string // of persons, to patients
}

// scripted is a change as the test knows it.
type scripted struct {
	second  int
	typ     string
	uuids   []string // as touched has them
	failure bool
}

// whole is a source that resumes after any token, as a server does.
type whole struct {
	*script
	opened int
}

func (s *whole) Run(ctx context.Context, from watcher.From, emit func(context.Context, watcher.Chunk) error) error {
	s.opened++
	for _, c := range s.chunks {
		if !tokens.After(c.Token, from.Token) {
			continue
		}
		c.Changes = after(c.Changes, from.Token)
		if err := emit(ctx, c); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// fatal is a publisher whose process ends at one of its commits, before or after it is done.
type fatal struct {
	*recorder
	left *int
	late bool
}

var errKilled = errors.New("killed")

func (f *fatal) Commit(ctx context.Context, b *publisher.Batch) error {
	*f.left--
	if *f.left == 0 && !f.late {
		return errKilled
	}
	if err := f.recorder.Commit(ctx, b); err != nil {
		return err
	}
	if *f.left == 0 {
		return errKilled
	}
	return nil
}

type scriptedLinks map[string][]string

func (l scriptedLinks) Find(_ context.Context, patients []string, _ uint32, _ bson.Timestamp, each func(lookup.LinkedPerson)) error {
	for _, person := range slices.Sorted(maps.Keys(l)) {
		if slices.ContainsFunc(l[person], func(p string) bool { return slices.Contains(patients, p) }) {
			each(lookup.LinkedPerson{UUID: person, Patients: l[person]})
		}
	}
	return nil
}

func tokenAt(second, n int) bson.Raw {
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X", second, n)}})
	if err != nil {
		panic(err)
	}
	return raw
}

func (c scripted) raw(t *testing.T, n int) bson.Raw {
	t.Helper()
	d := bson.D{
		{Key: "_id", Value: tokenAt(c.second, n)},
		{Key: "operationType", Value: "replace"},
		{Key: "clusterTime", Value: bson.Timestamp{T: uint32(c.second), I: uint32(n)}},
		{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: c.typ + "_4_0_0"}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: n}}},
	}
	if !c.failure {
		d = append(d, bson.E{Key: "touched", Value: append([]string{}, c.uuids...)})
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// newSession is a session of a seed, which ends with an idle stream.
func newSession(t *testing.T, seed uint64) session {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	s := session{links: map[string][]string{}}
	for person := range 4 {
		for range r.IntN(3) {
			s.links[fmt.Sprintf("person-%d", person)] = append(s.links[fmt.Sprintf("person-%d", person)], fmt.Sprintf("patient-%d", r.IntN(9)))
		}
	}
	second, n := 1000, 1
	var c watcher.Chunk
	end := func() {
		if len(c.Token) > 0 {
			s.chunks = append(s.chunks, c)
		}
		c = watcher.Chunk{}
	}
	for range 60 {
		n++
		if r.IntN(3) == 0 {
			second += r.IntN(6)
		}
		change := scripted{second: second, typ: []string{"Observation", "Consent", "Group", "Patient", "Person"}[r.IntN(5)], failure: r.IntN(15) == 0}
		switch change.typ {
		case "Patient":
			change.uuids = []string{fmt.Sprintf("patient-%d", r.IntN(9))}
		case "Person":
			change.uuids = []string{fmt.Sprintf("person-%d", r.IntN(5))}
		default:
			for range r.IntN(4) {
				prefix := []string{"Patient/patient-", "Patient/patient-", "Patient/person.person-"}[r.IntN(3)]
				change.uuids = append(change.uuids, fmt.Sprintf("%s%d", prefix, r.IntN(9)))
			}
		}
		s.changes = append(s.changes, change)
		raw := change.raw(t, n)
		c.Changes, c.Size, c.Token = append(c.Changes, raw), c.Size+len(raw), tokenAt(second, n)
		if r.IntN(3) == 0 {
			end()
		}
		if r.IntN(8) == 0 {
			end()
			n++
			c.Token = tokenAt(second+r.IntN(3), n)
			if at, _ := tokens.ClusterTime(c.Token); int(at.T) > second {
				second = int(at.T)
			}
			end()
		}
	}
	end()
	s.chunks = append(s.chunks, watcher.Chunk{Token: tokenAt(second+30, n+1)})
	return s
}

// expected are the events of a session, worked out without the code under test: as
// "window part kind uuid types".
func (s session) expected(most int) (events []string, failures int) {
	type key struct {
		window, part int
		kind, uuid   string
	}
	types, parts, sizes := map[key][]string{}, map[int]int{}, map[int]int{}
	touch := func(k key, typ string) {
		if _, known := types[k]; !known {
			sizes[k.window]++
		}
		if !slices.Contains(types[k], typ) {
			types[k] = append(types[k], typ)
		}
	}
	for _, c := range s.changes {
		window := c.second / 10 * 10
		if c.failure {
			failures += 2 // one for each kind
			if c.typ == "Person" {
				failures--
			}
			if sizes[window] += 2; c.typ == "Person" {
				sizes[window]--
			}
		} else {
			for _, uuid := range c.uuids {
				uuid = strings.TrimPrefix(uuid, "Patient/")
				kind := "patient_data_change"
				if proxy, ok := strings.CutPrefix(uuid, "person."); ok || c.typ == "Person" {
					kind, uuid = "person_data_change", proxy
				}
				touch(key{window, parts[window], kind, uuid}, c.typ)
			}
		}
		if sizes[window] >= most {
			parts[window]++
			sizes[window] = 0
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(types), func(a, b key) int { return cmp.Compare(a.kind, b.kind) }) {
		if k.kind != "patient_data_change" {
			continue
		}
		for person := range s.links {
			of := key{k.window, k.part, "person_data_change", person}
			if _, done := types[key{k.window, k.part, "linked", person}]; done {
				continue
			}
			types[key{k.window, k.part, "linked", person}] = nil
			for _, patient := range s.links[person] {
				for _, typ := range types[key{k.window, k.part, "patient_data_change", patient}] {
					touch(of, typ)
				}
			}
		}
	}
	for k, list := range types {
		if k.kind != "linked" && len(list) > 0 {
			id := mapper.DataChangeID(mapper.Kind(k.kind), []byte(k.uuid), mapper.Window{Start: uint32(k.window), End: uint32(k.window + 10), Part: uint32(k.part)})
			events = append(events, fmt.Sprintf("%s %s %q", id, k.uuid, list))
		}
	}
	slices.Sort(events)
	return events, failures
}

func windowed(source Source, k *kept, publish func() (Publisher, error), links PersonLinks, records int) *Stream {
	m := mapper.New(mapper.Config{
		Database: "fhir", Window: 10 * time.Second,
		Topics: map[mapper.Kind]string{mapper.KindPatientDataChange: "patients", mapper.KindPersonDataChange: "persons"},
	})
	o := Options{
		Name: "data-changes", MaxRecords: records, MaxBytes: 1 << 20, IdleInterval: 30 * time.Second,
		DrainTimeout: 5 * time.Second, MinBackoff: 10 * time.Millisecond, MaxBackoff: time.Second,
	}
	if publish == nil {
		publish = k.publisher
	}
	return NewStream(o, Parts{source, nil, m, Facts{Links: links}, publish}, zap.NewNop())
}

// got are the events of a stream in the form of expected.
func got(k *kept) (events []string, failures int) {
	for _, b := range k.batches {
		for _, e := range b.Events {
			value := string(e.Value)
			types := strings.ReplaceAll(strings.TrimSuffix(value[strings.Index(value, "["):], "}"), ",", " ")
			events = append(events, fmt.Sprintf("%s %s %s", e.ID, e.Key, types))
		}
		failures += len(b.Failures)
	}
	slices.Sort(events)
	return events, failures
}

// TestWindowsUnderKill ends the process at each of its commits, before and after it: each event
// comes once, with the same contents.
func TestWindowsUnderKill(t *testing.T) {
	for seed := range uint64(12) {
		for _, most := range []int{maxOpen, 7} {
			s := newSession(t, seed)
			want, failures := s.expected(most)
			if len(want) < 15 {
				t.Fatalf("seed %d has %d events only", seed, len(want))
			}
			commits := 0
			for kill := 0; kill == 0 || kill <= commits; kill++ {
				for _, late := range []bool{false, true} {
					t.Run(fmt.Sprintf("seed %d most %d kill %d late %v", seed, most, kill, late), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							k, left := &kept{}, kill
							source := &whole{script: &script{fingerprint: "f", begin: tokenAt(990, 0), chunks: s.chunks}}
							publish := func() (Publisher, error) { return &fatal{&recorder{kept: k}, &left, late}, nil }
							stream := windowed(source, k, publish, scriptedLinks(s.links), 3)
							stream.mostOpen = most
							if err := play(t, stream, time.Minute); err != nil && !errors.Is(err, errKilled) { // at the end
								t.Fatal(err)
							}
							events, failed := got(k)
							if !slices.Equal(events, want) {
								t.Errorf("events\n%s\nwant\n%s", strings.Join(events, "\n"), strings.Join(want, "\n"))
							}
							if failed != failures {
								t.Errorf("%d failures, want %d", failed, failures)
							}
							if kill == 0 {
								commits = len(k.batches)
							}
							if w := k.position.Window; w == nil || len(k.position.Token) == 0 {
								t.Errorf("the last position is %+v", k.position)
							}
						})
					})
				}
			}
		}
	}
}

// An idle stream closes its window by the token of the server alone, and an open one moves no
// position.
func TestAnIdleStreamClosesItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := scripted{second: 1003, typ: "Observation", uuids: []string{"Patient/a"}}.raw(t, 1)
		chunks := []watcher.Chunk{{Changes: []bson.Raw{raw}, Token: tokenAt(1003, 1)}, {Token: tokenAt(1009, 1)}}
		k := &kept{position: resumetoken.Position{Stream: "data-changes", Token: tokenAt(1001, 1), ClusterTime: bson.Timestamp{T: 1001}, Fingerprint: "f"}}
		source := &whole{script: &script{fingerprint: "f", chunks: chunks}}
		if err := play(t, windowed(source, k, nil, nil, 10), time.Minute); err != nil {
			t.Fatal(err)
		}
		if len(k.ids()) != 0 || k.position.ClusterTime.T > 1001 {
			t.Fatalf("an open window has events %v, or its position is %+v", k.ids(), k.position)
		}
		source.chunks = append(source.chunks, watcher.Chunk{Token: tokenAt(1010, 1)})
		if err := play(t, windowed(source, k, nil, nil, 10), time.Minute); err != nil {
			t.Fatal(err)
		}
		if got := k.ids(); !slices.Equal(got, []string{"a"}) || k.position.ClusterTime.T != 1010 || k.position.Window.End != 1010 {
			t.Fatalf("events %v, position %+v", got, k.position)
		}
	})
}

// Windows of another length begin after those that were published.
func TestWindowsOfAnotherLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c watcher.Chunk
		for n, second := range []int{1012, 1018, 1031} {
			c.Changes = append(c.Changes, scripted{second: second, typ: "Patient", uuids: []string{fmt.Sprint(second)}}.raw(t, n))
			c.Token = tokenAt(second, n)
		}
		k := &kept{position: resumetoken.Position{
			Stream: "data-changes", Token: tokenAt(1001, 1), ClusterTime: bson.Timestamp{T: 1001}, Fingerprint: "f",
			Window: &resumetoken.Window{Start: 1005, End: 1015},
		}}
		source := &whole{script: &script{fingerprint: "f", chunks: []watcher.Chunk{c}}}
		if err := play(t, windowed(source, k, nil, nil, 10), time.Minute); err != nil {
			t.Fatal(err)
		}
		want := mapper.DataChangeID(mapper.KindPatientDataChange, []byte("1018"), mapper.Window{Start: 1015, End: 1020})
		if got := k.batches[len(k.batches)-1].Events; len(got) != 1 || got[0].ID != want {
			t.Fatalf("events %+v, want one of the id %s", got, want)
		}
	})
}

// Dead letters of a window are cut into batches as its events are, each once: a mass delete
// without pre-images would be one transaction otherwise, that could never be done in time.
func TestFailuresOfAWindowAreCut(t *testing.T) {
	for kill := range 9 {
		synctest.Test(t, func(t *testing.T) {
			var c watcher.Chunk
			for n := range 10 {
				change := scripted{second: 1003, typ: "Observation", failure: n > 1, uuids: []string{fmt.Sprintf("Patient/%d", n)}}
				c.Changes, c.Token = append(c.Changes, change.raw(t, n/3)), tokenAt(1003, n/3) // some of a transaction
			}
			k, left := &kept{position: resumetoken.Position{Stream: "data-changes", Token: tokenAt(1001, 1), ClusterTime: bson.Timestamp{T: 1001}, Fingerprint: "f"}}, kill
			source := &whole{script: &script{fingerprint: "f", chunks: []watcher.Chunk{c, {Token: tokenAt(1010, 1)}}}}
			publish := func() (Publisher, error) { return &fatal{&recorder{kept: k}, &left, kill%2 == 0}, nil }
			if err := play(t, windowed(source, k, publish, nil, 3), time.Minute); err != nil && !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			letters := map[string]int{}
			for _, b := range k.batches {
				if len(b.Events)+len(b.Failures) > 3 {
					t.Errorf("a batch has %d events and %d dead letters", len(b.Events), len(b.Failures))
				}
				for _, f := range b.Failures {
					letters[fmt.Sprint(f.Kind, f.Change.ClusterTime)]++
				}
			}
			events, failures := got(k)
			if len(events) != 2 || failures != 16 || letters["patient_data_change{1003 1}"] != 3 {
				t.Errorf("killed at %d: %d events, %d failures: %v", kill, len(events), failures, letters)
			}
		})
	}
}

// hanging is a publisher whose brokers do not answer.
type hanging struct{ *recorder }

func (h *hanging) Commit(ctx context.Context, _ *publisher.Batch) error {
	<-ctx.Done()
	return ctx.Err()
}

// A window that waits for Kafka does not wait for MongoDB.
func TestAWindowWaitsForKafka(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		change := scripted{second: 1003, typ: "Group"}
		for n := range 9 {
			change.uuids = append(change.uuids, fmt.Sprintf("Patient/%d", n))
		}
		k := &kept{position: resumetoken.Position{Stream: "data-changes", Token: tokenAt(1001, 1), ClusterTime: bson.Timestamp{T: 1001}, Fingerprint: "f"}}
		chunks := []watcher.Chunk{{Changes: []bson.Raw{change.raw(t, 1)}, Token: tokenAt(1003, 1)}, {Token: tokenAt(1010, 1)}}
		stream := windowed(&whole{script: &script{fingerprint: "f", chunks: chunks}}, k, func() (Publisher, error) { return &hanging{&recorder{kept: k}}, nil }, nil, 1)
		time.AfterFunc(time.Minute, func() {
			if p := stream.Progress(); p.Committing.IsZero() || !p.Mapping.IsZero() {
				t.Errorf("committing since %v, mapping since %v", p.Committing, p.Mapping)
			}
		})
		_ = play(t, stream, 2*time.Minute) // It cannot commit.
	})
}

// A drop inside a window is put on record once, when the window ends: the window is read again
// after a restart.
func TestADropInsideAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := scripted{second: 1003, typ: "Observation", uuids: []string{"Patient/a"}}.raw(t, 1)
		drop, err := bson.Marshal(bson.D{
			{Key: "_id", Value: tokenAt(1004, 1)},
			{Key: "operationType", Value: "drop"},
			{Key: "clusterTime", Value: bson.Timestamp{T: 1004, I: 1}},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: "Observation_4_0_0"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		k := &kept{position: resumetoken.Position{Stream: "data-changes", Token: tokenAt(1001, 1), ClusterTime: bson.Timestamp{T: 1001}, Fingerprint: "f"}}
		source := &whole{script: &script{fingerprint: "f", chunks: []watcher.Chunk{{Changes: []bson.Raw{raw, drop}, Token: tokenAt(1004, 1)}}}}
		var noted []string
		for _, want := range [][]string{nil, nil, {"drop fhir.Observation_4_0_0"}} {
			stream := windowed(source, k, nil, nil, 10)
			stream.opts.NoteWhole = func(_ context.Context, what string, n mapper.Namespace) error {
				noted = append(noted, what+" "+n.String())
				return nil
			}
			if len(want) > 0 {
				source.chunks = append(source.chunks, watcher.Chunk{Token: tokenAt(1010, 1)})
			}
			if err := play(t, stream, time.Minute); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(noted, want) {
				t.Errorf("put on record is %v, want %v", noted, want)
			}
		}
	})
}

// Places go by their stored texts: a position of a version that compared those goes on as it would
// have then.
func TestPlacesAreInTheOrderOfTheirTexts(t *testing.T) {
	texts := []string{""}
	for _, kind := range []mapper.Kind{mapper.KindPatientDataChange, mapper.KindPersonDataChange, afterKinds} {
		for _, uuid := range []string{"", "a", "a/b", "b"} {
			texts = append(texts, place{kind, uuid}.String())
		}
	}
	for _, a := range texts {
		if got := placeOf(a).String(); got != a && a != "" {
			t.Errorf("%s is read as %s", a, got)
		}
		for _, b := range texts {
			if got, want := placeOf(a).compare(placeOf(b)), cmp.Compare(a, b); got != want {
				t.Errorf("%q to %q is %d, as texts %d", a, b, got, want)
			}
		}
	}
}

// Nobody has an empty uuid, which would be the key of the event of all of them.
func TestAnEmptyUUIDFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := scripted{second: 1003, typ: "Patient", uuids: []string{""}}.raw(t, 1)
		k := &kept{position: resumetoken.Position{Stream: "data-changes", Token: tokenAt(1001, 1), ClusterTime: bson.Timestamp{T: 1001}, Fingerprint: "f"}}
		source := &whole{script: &script{fingerprint: "f", chunks: []watcher.Chunk{{Changes: []bson.Raw{raw}, Token: tokenAt(1010, 1)}}}}
		if err := play(t, windowed(source, k, nil, nil, 10), time.Minute); err != nil {
			t.Fatal(err)
		}
		if events, failures := got(k); len(events) > 0 || failures != 2 {
			t.Errorf("events %v, %d failures", events, failures)
		}
	})
}

// causal notes the time that a look-up's answer has to include, and the end by which links count.
type causal struct {
	scriptedLinks

	after bson.Timestamp
	end   uint32
}

func (c *causal) Find(ctx context.Context, patients []string, end uint32, after bson.Timestamp, each func(lookup.LinkedPerson)) error {
	c.end, c.after = end, after
	return c.scriptedLinks.Find(ctx, patients, end, after, each)
}

// A repair takes the links that stand after the gap, whatever their times, and reads them causally
// after its end.
func TestTouchedTakesLinksAfterTheGap(t *testing.T) {
	links, end := &causal{scriptedLinks: scriptedLinks{"person": {"a"}}}, bson.Timestamp{T: 100, I: 7}
	m := windowed(&whole{script: &script{}}, &kept{}, nil, links, 10).parts.Mapper
	translation := NewWindowTranslation(m, Facts{Links: links}, func(string) int { return 1 << 20 })
	var change mapper.Change
	m.Read(scripted{second: 90, typ: "Observation", uuids: []string{"Patient/a"}}.raw(t, 1), &change)
	var out mapper.Output
	if err := translation.Touched(t.Context(), []mapper.Change{change}, 100_000, end, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Events) != 2 || links.after != end || links.end <= end.T {
		t.Errorf("%d events, links up to %d as of %v; want 2, of after the gap's end %v", len(out.Events), links.end, links.after, end)
	}
}
