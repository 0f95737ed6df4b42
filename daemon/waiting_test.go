package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/tokens"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

const ms = time.Millisecond

func TestOthersGoAheadOfWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var changes []bson.Raw
		at, history := map[int]time.Duration{}, map[int]time.Duration{}
		for i := range 200 { // one $merge
			changes = append(changes, put(t, 10+i, fmt.Sprintf("m%d", i), 1))
			at[i], history[i] = time.Duration(i)*ms, 19*time.Second
		}
		add := func(raw bson.Raw, when, after time.Duration) {
			at[len(changes)], history[len(changes)] = when, after
			changes = append(changes, raw)
		}
		add(put(t, 300, "single", 1), 2*time.Second, 2*time.Second)
		add(put(t, 301, "late", 1), 2*time.Second, 2*time.Second+140*ms)
		add(put(t, 302, "m7", 2), 3*time.Second, 3*time.Second) // waits behind its first version
		add(accessLog(t, 303, "request"), 3*time.Second, 0)
		r, h, err := waits(t, changes, at, history, func(_ *Options, f *Facts) { f.Persons = nobody{} })
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]time.Duration{"single": 2 * time.Second, "late": 2*time.Second + 200*ms} {
			if got := r.of(id); len(got) != 1 || got[0].at.Sub(start) > want || got[0].request == "" {
				t.Errorf("%s: %+v, want one with its request within %v", id, got, want)
			}
		}
		var without int
		for _, one := range r.all {
			if one.request == "" && one.key != "" && strings.HasPrefix(one.key, "m") {
				without++
			}
			if one.at.Sub(start) > 22*time.Second {
				t.Errorf("%s came after %v", one.key, one.at.Sub(start))
			}
		}
		if without > 0 || len(r.all) != len(changes) || h.gaveUp > 0 {
			t.Errorf("%d events of %d changes, %d of the $merge without request, %d given up", len(r.all), len(changes), without, h.gaveUp)
		}
		if got := r.of("m7"); len(got) != 2 || !strings.HasSuffix(got[0].request, "-1") || !strings.HasSuffix(got[1].request, "-2") {
			t.Errorf("the versions of m7 came as %+v", got)
		}
		if more := h.looks - len(changes); more > 60 { // each change came alone, and was looked up
			t.Errorf("%d looks at the history while changes waited", more)
		}
		if len(r.position.Published) > 0 {
			t.Errorf("the last position has %v", r.position.Published)
		}
	})
}

// A change that is over its time but waits behind another one is looked for at its pace
// and no more often.
func TestOverdueBehindAnother(t *testing.T) {
	now := time.Now()
	s := newWaiting(&histories{})
	s.list = []*waiter{{missing: true, queued: true, since: now.Add(-time.Hour), look: now.Add(time.Minute)}}
	if at := s.next(false); !at.Equal(now.Add(time.Minute)) || len(s.asks(now, false)) > 0 {
		t.Errorf("the next look is in %v", at.Sub(now))
	}
	s.list[0].queued = false
	if at := s.next(false); at.After(now) || len(s.asks(now, false)) != 1 {
		t.Errorf("it is given up in %v", at.Sub(now))
	}
}

// Who writes no history is kept waiting once, not for good, and at no time is anything held
// up for longer than the wait for one version.
func TestWritersWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var changes []bson.Raw
		at := map[int]time.Duration{}
		for i := range 3 * manyVain { // 2,000 a second
			at[len(changes)] = time.Duration(i/20) * 10 * ms
			changes = append(changes, put(t, 10+i, fmt.Sprintf("c%d", i), 1))
		}
		later := len(changes)
		for i := range 100 {
			at[len(changes)] = time.Minute
			changes = append(changes, put(t, 5000+i, fmt.Sprintf("d%d", i), 1))
		}
		r, h, err := waits(t, changes, at, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.all) != len(changes) || h.gaveUp != len(changes) {
			t.Fatalf("%d events, %d given up", len(r.all), h.gaveUp)
		}
		for i, one := range r.all {
			n, _ := strconv.Atoi(one.key[1:])
			if i >= later {
				n += later
			}
			took := one.at.Sub(start.Add(at[n]))
			if bound := 3 * testWait; took > bound {
				t.Fatalf("%s came %v after its change", one.key, took)
			}
			if i >= later && took != testWait {
				t.Fatalf("%s came %v after its change, although its collection has no history", one.key, took)
			}
		}
	})
}

func TestOldChangesDoNotWait(t *testing.T) {
	for name, c := range map[string]struct {
		newest bson.Timestamp
		want   time.Duration
	}{
		"old":                     {bson.Timestamp{T: 3600}, 0},
		"of this second":          {bson.Timestamp{T: 10, I: 9}, testWait},
		"of the second before":    {bson.Timestamp{T: 11}, testWait},
		"a member that lags":      {bson.Timestamp{T: 9}, testWait},
		"the newest is not known": {bson.Timestamp{}, testWait},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // its clock is decades from the changes' wallTime
				start := time.Now()
				r, _, err := waits(t, []bson.Raw{put(t, 10, "a", 1)}, nil, nil, func(_ *Options, f *Facts) {
					f.Newest = func(context.Context) (bson.Timestamp, error) { return c.newest, nil }
				})
				if err != nil {
					t.Fatal(err)
				}
				if got := r.all[0].at.Sub(start); got != c.want {
					t.Errorf("its event came after %v, want %v", got, c.want)
				}
			})
		})
	}
}

// With the policy stop a failure ends the stream when all before it is published.
func TestStopWaitsForWhatIsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := change(t, 12, bson.D{{Key: "id", Value: 7}})
		changes := []bson.Raw{put(t, 10, "a", 1), put(t, 11, "b", 1), bad, put(t, 13, "c", 1)}
		r, _, err := waits(t, changes, map[int]time.Duration{3: 100 * ms}, map[int]time.Duration{0: 500 * ms, 1: 0, 3: 0}, func(o *Options, _ *Facts) {
			o.Stop = map[mapper.Kind]bool{mapper.KindChange: true}
		})
		var stopped *PolicyError
		if !errors.As(err, &stopped) {
			t.Fatalf("ended with %v", err)
		}
		if len(r.all) != 2 || r.all[0].key != "b" || r.all[1].key != "a" || r.all[1].request == "" {
			t.Errorf("published %+v, want b and a", r.all)
		}
		if p := r.position; p.Token.String() != token(11).String() || len(p.Published) > 0 {
			t.Errorf("stopped at %v, want right before the failed change", p)
		}
	})
}

// What waits after the change that stops the stream is not looked for any more: it is read
// again after the stop.
func TestAfterAStopNothingIsLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		h := &histories{}
		s := stream(nil, nil, &kept{}, func(_ *Options, f *Facts) { f.RequestIDs = h })
		m := &mapping{Stream: s, waiting: newWaiting(h), stop: &PolicyError{}, stopAt: 2}
		m.waiting.list = []*waiter{
			{number: 1, missing: true, since: now, look: now.Add(time.Minute)},
			{number: 3, missing: true, since: now.Add(-time.Hour), look: now},
		}
		m.waiting.read = 3
		for range 2 { // the first time tells that it is over its time
			if _, err := m.batch(t.Context(), unmapped{}); err != nil {
				t.Fatal(err)
			}
		}
		if at := m.waiting.next(false); at.Before(now.Add(testWait)) || h.looks > 1 {
			t.Errorf("%d looks, the next in %v, want it when the first change is given up", h.looks, at.Sub(now))
		}
	})
}

// Where others have published every second change, no position has more runs than it may
// have, and what they have published is not published again after a crash.
func TestPublishedByOthersMakesNoMoreRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		others := []resumetoken.Published{{
			Coverage: resumetoken.Coverage{Stream: "b", Cluster: "c", Collections: []string{"fhir.Consent_4_0_0"}, Of: 2}, Token: token(350),
		}}
		var changes, theirs []bson.Raw
		history := map[int]time.Duration{}
		for i := range 400 {
			changes, history[i] = append(changes, put(t, 10+i, fmt.Sprint("c", i), 1)), 500*ms
			if Published(others, changes[i]) {
				theirs = append(theirs, changes[i])
			}
		}
		r, _, err := waits(t, changes, nil, history, func(o *Options, _ *Facts) { o.IdleInterval = 0 }, func(_ *Stream, r *records) {
			r.position = resumetoken.Position{Stream: "main", Token: token(1), Fingerprint: "f", Published: others}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(r.all), len(changes)-len(theirs); got != want || len(theirs) < 150 {
			t.Errorf("%d events, want %d", got, want)
		}
		if r.most > maxRuns {
			t.Errorf("a position has %d runs", r.most)
		}
		for _, b := range r.batches {
			for _, raw := range theirs {
				if id, _ := raw.Lookup("_id").DocumentOK(); tokens.After(id, b.Position.Token) && !Published(b.Position.Published, raw) {
					t.Fatalf("after a crash at %v the change %v is published again", b.Position.Token, id)
				}
			}
		}
	})
}

// However many changes are read at once, only so many wait: each holds memory. All have their
// events, in order, and a request that is told of twice has one.
func TestOneChunkOfManyWithoutHistory(t *testing.T) {
	const many, late = 4 * maxWaiting, 3 * maxWaiting / 2
	var changes []bson.Raw
	for i := range many {
		changes = append(changes, put(t, 10+i, fmt.Sprintf("c%d", i/2), 1+i%2))
		if i%late == late-1 {
			changes = append(changes, accessLog(t, 10+i, "request"))
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := &histories{}
		s := stream(&script{fingerprint: "f"}, nil, &kept{}, func(_ *Options, f *Facts) { f.RequestIDs = h })
		p, err := (&kept{}).publisher()
		if err != nil {
			t.Fatal(err)
		}
		m := &mapping{Stream: s, publisher: p, waiting: newWaiting(h), position: resumetoken.Position{Token: token(1)}}
		block := slices.Clone(changes)
		block[0] = bytes.Clone(block[0])
		if _, err := m.batch(t.Context(), unmapped{Chunk: watcher.Chunk{Changes: block, Token: token(9000)}}); err != nil {
			t.Fatal(err)
		}
		clear(block[0])
		if got := m.waiting.list[1].before.Token; !bytes.Equal(got, token(10)) {
			t.Errorf("the change that waits keeps what was read with it")
		}
		if n := len(m.waiting.list); n != maxWaiting {
			t.Errorf("%d changes wait, want %d", n, maxWaiting)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		const known = 1000
		found := map[int]time.Duration{} // at once
		for i := range known {
			found[many/2+i] = 0
		}
		r, h, err := waits(t, changes, nil, found, func(_ *Options, f *Facts) { f.Persons = nobody{} })
		if err != nil {
			t.Fatal(err)
		}
		if len(r.all) != many+1 || h.gaveUp != many-known {
			t.Errorf("%d events, want %d; %d of %d given up", len(r.all), many+1, h.gaveUp, many-known)
		}
		for version, n := range h.asked {
			if n != 1 {
				t.Errorf("the history of %s was known, and asked for %d times", version, n)
			}
		}
		for i := range many / 2 {
			if got := r.of(fmt.Sprintf("c%d", i)); len(got) != 2 || got[0].id == got[1].id || got[1].at.Before(got[0].at) {
				t.Errorf("c%d came as %+v", i, got)
			}
		}
	})
}
