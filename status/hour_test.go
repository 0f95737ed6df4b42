package status

import (
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// counted is a stream with so many events, all of them as late as late buckets say.
func counted(events, dead uint64, late ...uint64) View {
	v := View{Progress: daemon.Progress{
		Stream: "main", State: daemon.Running,
		Events:          map[daemon.Tally]uint64{{Kind: mapper.KindChange, Action: daemon.Create}: events},
		DeadLetters:     map[mapper.Kind]uint64{mapper.KindChange: dead},
		EndToEndSeconds: daemon.Histogram{Bounds: []float64{1, 10}, Counts: []uint64{0, 0, 0}},
	}}
	copy(v.EndToEndSeconds.Counts, late)
	return v
}

// An hour stays small, keeps every event, and forgets what is older.
func TestHour(t *testing.T) {
	now := noon
	h := newHour(counted(0, 0), now)
	var events uint64
	run := func(of time.Duration, perTick uint64) {
		for end := now.Add(of); now.Before(end); {
			now, events = now.Add(tick), events+perTick
			h.add(counted(events, 0), now)
		}
	}
	sum := func() (all uint64, length time.Duration) {
		for _, p := range h.view().Points {
			all, length = all+p.Events, length+p.Length
		}
		return all, length
	}
	run(2*time.Minute, 6)
	if all, length := sum(); all != 360 || length != 2*time.Minute || h.view().Now != 3 {
		t.Errorf("after two minutes: %d events in %s, %v a second", all, length, h.view().Now)
	}
	run(43*time.Minute, 6)
	if all, length := sum(); all < 45*180-50 || length < 45*time.Minute-time.Minute || len(h.points) > maxPoints {
		t.Errorf("after 45 minutes: %d events in %s, %d points", all, length, len(h.points))
	}
	run(5*time.Hour, 2)
	if all, length := sum(); length < 59*time.Minute || length > 61*time.Minute || all != uint64(length/tick)*2 || len(h.points) > maxPoints || len(h.minutes) > minutes {
		t.Errorf("after five hours: %d events in %s, %d points", all, length, len(h.points))
	}
	h.add(counted(1, 0), now.Add(tick)) // from 0 again
	if view := h.view(); view.Now > 2 || view.DeadLetters > 0 {
		t.Errorf("a stream that counts from 0 again has %v events a second", view.Now)
	}
}

// Percentiles and dead letters are of the last hour alone.
func TestHourForgets(t *testing.T) {
	now := noon
	h := newHour(counted(0, 0), now)
	for range 10 {
		now = now.Add(time.Minute)
		h.add(counted(100, 7, 0, 0, 100), now)
	}
	if p := quantile(h.view().EndToEnd, .5); p == nil || *p != 10 || h.view().DeadLetters != 7 {
		t.Errorf("what lies above all bounds counts as %v, with %d dead letters", p, h.view().DeadLetters)
	}
	for range 2 * minutes {
		now = now.Add(time.Minute)
		h.add(counted(100, 7, 0, 0, 100), now)
	}
	if p := quantile(h.view().EndToEnd, .5); p != nil || h.view().DeadLetters != 0 {
		t.Errorf("after two idle hours the median is still %v, with %d dead letters", *p, h.view().DeadLetters)
	}
}

func TestQuantile(t *testing.T) {
	h := daemon.Histogram{Bounds: []float64{1, 2, 4}, Counts: []uint64{50, 40, 10, 0}}
	for share, want := range map[float64]float64{.25: .5, .5: 1, .7: 1.5, .95: 3, 1: 4} {
		if got := quantile(h, share); got == nil || *got < want-1e-9 || *got > want+1e-9 {
			t.Errorf("of %v it is %v, want %v", share, got, want)
		}
	}
	if got := quantile(daemon.Histogram{}, .5); got != nil {
		t.Errorf("of nothing it is %v", *got)
	}
}
