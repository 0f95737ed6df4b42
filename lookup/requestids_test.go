package lookup

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fakeHistory has documents that can be read from a point in time on.
type fakeHistory struct {
	documents map[string]map[versionKey]document // by collection
	reads     []readCall
	err       error
}

type document struct {
	requestID string
	from      time.Time
}

type readCall struct {
	collection string
	keys       int
	at         time.Duration // since the bubble's start
}

func (f *fakeHistory) put(v Version, requestID string, from time.Time) {
	key, _ := v.key()
	if f.documents == nil {
		f.documents = make(map[string]map[versionKey]document)
	}
	if f.documents[v.Collection] == nil {
		f.documents[v.Collection] = make(map[versionKey]document)
	}
	f.documents[v.Collection][key] = document{requestID: requestID, from: from}
}

func (f *fakeHistory) read(_ context.Context, collection string, _ bool, keys []versionKey, found func(versionKey, answer)) (int, error) {
	f.reads = append(f.reads, readCall{collection: collection, keys: len(keys), at: time.Since(bubbleStart())})
	for _, k := range keys {
		if d, ok := f.documents[collection][k]; ok && !d.from.After(time.Now()) {
			found(k, answer{Answer: Answer{RequestID: d.requestID}})
		}
	}
	return 1, f.err
}

func (f *fakeHistory) before(context.Context, string, []versionKey, func(earlier)) (int, error) {
	return 0, errors.New("nobody asked for links")
}

// ids are the request ids of answers.
func ids(answers []Answer) []string {
	var ids []string
	for _, a := range answers {
		ids = append(ids, a.RequestID)
	}
	return ids
}

// bubbleStart is the time at which a synctest bubble's clock begins.
func bubbleStart() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func version(collection, uuid, versionID string, changedAt time.Time) Version {
	return Version{
		Collection: collection, UUID: uuid, VersionID: versionID,
		LastUpdated: changedAt.Add(-10 * time.Millisecond),
	}
}

func TestFindKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		a, b := version("Consent_4_0_0", "a", "1", now), version("Patient_4_0_0", "b", "2", now)
		recreated := version("Consent_4_0_0", "a", "1", now.Add(-time.Hour))
		history := &fakeHistory{}
		history.put(a, "req-a", now)
		history.put(b, "req-b", now)
		history.put(recreated, "req-before", now)
		r := newRequestIDs(history, RequestIDOptions{Wait: time.Second})

		noUUID, noTime := a, a
		noUUID.UUID, noTime.LastUpdated = "", time.Time{}
		got, err := r.Find(t.Context(), []Version{b, noUUID, a, recreated, noTime, a})
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"req-b", "", "req-a", "req-before", "", "req-a"}; !slices.Equal(ids(got), want) {
			t.Errorf("got %+v, want %q", got, want)
		}
		want := []readCall{{collection: "Patient_4_0_0", keys: 1}, {collection: "Consent_4_0_0", keys: 2}}
		if !slices.Equal(history.reads, want) {
			t.Errorf("reads %+v, want %+v", history.reads, want)
		}
		if got, want := r.Stats(), (RequestIDStats{Queries: 2, Found: 4, Missing: 2}); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
	})
}

func TestFindWaits(t *testing.T) {
	const wait = 300 * time.Millisecond
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	never := ms(1 << 30)
	type change struct {
		age     time.Duration // of the change when Find is called
		history time.Duration // when it can be read, after the call
	}
	tests := []struct {
		name    string
		wait    time.Duration
		changes []change
		want    []string
		took    time.Duration
		asked   []int // keys of each look
	}{
		{name: "nothing asked", wait: wait},
		{name: "all there", wait: wait, changes: []change{{age: 0}, {age: ms(5)}}, want: []string{"r", "r"}, asked: []int{2}},
		{name: "late", wait: wait, changes: []change{{age: 0}, {age: 0, history: ms(50)}}, want: []string{"r", "r"}, took: ms(60), asked: []int{2, 1, 1}},
		{name: "growing pauses up to the deadline", wait: wait, changes: []change{{history: never}}, want: []string{""}, took: wait, asked: []int{1, 1, 1, 1, 1, 1}},
		{name: "the age of the change counts", wait: wait, changes: []change{{age: ms(250), history: never}}, want: []string{""}, took: ms(50), asked: []int{1, 1, 1}},
		{name: "comes with the last look", wait: wait, changes: []change{{age: ms(250), history: ms(50)}}, want: []string{"r"}, took: ms(50), asked: []int{1, 1, 1}},
		{name: "backlog never waits", wait: wait, changes: []change{{age: time.Hour, history: never}, {age: 2 * wait, history: ms(1)}}, want: []string{"", ""}, asked: []int{2}},
		{name: "each further version makes all wait longer", wait: wait, changes: []change{{history: never}, {history: never}, {history: never}}, want: []string{"", "", ""}, took: wait * 12 / 10, asked: []int{3, 3, 3, 3, 3, 3, 3}},
		{name: "what is there makes nobody wait longer", wait: wait, changes: []change{{history: 0}, {history: 0}, {history: never}}, want: []string{"r", "r", ""}, took: wait, asked: []int{3, 1, 1, 1, 1, 1}},
		{name: "only what may still come is asked for again", wait: wait, changes: []change{{age: time.Hour, history: never}, {age: 0, history: ms(20)}}, want: []string{"", "r"}, took: ms(20), asked: []int{2, 1}},
		{name: "an age below zero", wait: wait, changes: []change{{age: -time.Hour, history: never}}, want: []string{""}, took: wait, asked: []int{1, 1, 1, 1, 1, 1}},
		{name: "no waiting", wait: 0, changes: []change{{age: 0, history: ms(1)}}, want: []string{""}, asked: []int{1}},
		{name: "negative is no waiting", wait: -time.Second, changes: []change{{age: -time.Hour, history: ms(1)}}, want: []string{""}, asked: []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				history := &fakeHistory{}
				var versions []Version
				for i, c := range tt.changes {
					v := version("Consent_4_0_0", string(rune('a'+i)), "1", start.Add(-c.age))
					v.Age = c.age
					history.put(v, "r", start.Add(c.history))
					versions = append(versions, v)
				}
				r := newRequestIDs(history, RequestIDOptions{Wait: tt.wait})
				got, err := r.Find(t.Context(), versions)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(ids(got), tt.want) {
					t.Errorf("got %+v, want %q", got, tt.want)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				var asked []int
				for _, c := range history.reads {
					asked = append(asked, c.keys)
				}
				if !slices.Equal(asked, tt.asked) {
					t.Errorf("looks %v, want %v (%+v)", asked, tt.asked, history.reads)
				}
			})
		})
	}
}

func TestFindEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		time.AfterFunc(70*time.Millisecond, cancel)
		r := newRequestIDs(&fakeHistory{}, RequestIDOptions{Wait: time.Hour})
		got, err := r.Find(ctx, []Version{version("Consent_4_0_0", "a", "1", start)})
		if !errors.Is(err, context.Canceled) || got != nil {
			t.Errorf("got %+v, %v", got, err)
		}
		if took := time.Since(start); took != 70*time.Millisecond {
			t.Errorf("returned after %v", took)
		}
	})
}

func TestFindReturnsErrors(t *testing.T) {
	history := &fakeHistory{err: errors.New("no primary")}
	r := newRequestIDs(history, RequestIDOptions{})
	_, err := r.Find(t.Context(), []Version{version("Consent_4_0_0", "a", "1", time.Now())})
	if !errors.Is(err, history.err) {
		t.Errorf("got %v", err)
	}
	if got, want := r.Stats(), (RequestIDStats{Queries: 1}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}
