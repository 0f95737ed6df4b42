package status

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// idle is a stream that does nothing but tell of itself.
type idle daemon.Progress

func (s idle) Progress() daemon.Progress                      { return daemon.Progress(s) }
func (s idle) Window(context.Context) (watcher.Window, error) { return watcher.Window{}, nil }
func from(d time.Duration, why error, lost bool) func() Unjoined {
	return func() Unjoined { return Unjoined{Since: time.Now().Add(-d), Why: why, Lost: lost} }
}

// keptOut is what the group's own answer makes of a process.
func keptOut() Unjoined {
	u := from(time.Minute, errors.New("FENCED_INSTANCE_ID"), true)()
	u.Refuses, u.Advice = true, "Act: Kafka is up, give each process its own instance."
	return u
}

// A process that has lost the group of replicas is not ready, and says what is wrong
// with the stream rather than that somebody else carries it. One that has lost streams
// is no stand-by from the first moment.
func TestUnjoined(t *testing.T) {
	away := errors.New("no broker answers")
	for name, c := range map[string]struct {
		state    daemon.State
		unjoined func() Unjoined
		ready    bool
		shown    daemon.State
	}{
		"in the group":                           {daemon.StandingBy, from(time.Hour, nil, false), true, daemon.StandingBy},
		"out for a moment":                       {daemon.StandingBy, from(time.Second, away, false), true, daemon.StandingBy},
		"out for a long time":                    {daemon.StandingBy, from(time.Minute, away, false), false, daemon.Waiting},
		"out for a moment, with streams lost":    {daemon.StandingBy, from(time.Second, away, true), false, daemon.Waiting},
		"kept out by the group":                  {daemon.StandingBy, keptOut, false, daemon.Waiting},
		"running, and nothing heard of":          {daemon.Running, from(time.Minute, away, false), false, daemon.Running},
		"running, and an answer is overdue":      {daemon.Running, from(time.Second, away, false), true, daemon.Running},
		"being acquired, and nothing heard of":   {daemon.Acquiring, from(time.Minute, away, false), false, daemon.Acquiring},
		"paused, and nothing heard of the group": {daemon.Paused, from(time.Minute, away, false), false, daemon.Paused},
	} {
		t.Run(name, func(t *testing.T) {
			streams := func() []SampledStream {
				return []SampledStream{idle{Stream: "main", State: c.state, HasPosition: true, Since: time.Now()}}
			}
			// The group's last answer still names this process.
			owners := func(context.Context) (map[string]string, error) { return map[string]string{"main": "self"}, nil }
			sampler := NewSampler(streams, owners, c.unjoined, "self", zap.NewNop())
			sampler.ask(t.Context())
			registry := NewRegistry()
			registry.MustRegister(NewMetrics("", "", sampler.Views, Counts{Unjoined: c.unjoined}))
			s := New(Options{Hosts: []string{"example.com"}, Controls: Controls{Token: func() string { return "token" }}}, sampler.Views, registry, zap.NewNop()).handler()
			code, text := get(t, s, "/readyz")
			if ready := code == http.StatusOK; ready != c.ready {
				t.Errorf("/readyz: %d %q", code, text)
			}
			_, status := get(t, s, "/status")
			if !strings.Contains(status, `"state":"`+string(c.shown)+`"`) || strings.Contains(status, `"unjoinedSeconds":`) == c.ready {
				t.Errorf("/status: %s", status)
			}
			_, metrics := get(t, s, "/metrics")
			u := c.unjoined()
			if strings.Contains(metrics, "\nfhir_cdc_group_away_seconds 0\n") != (u.Why == nil || u.Refuses) ||
				strings.Contains(metrics, "\nfhir_cdc_group_out_seconds 0\n") != !u.Refuses ||
				!strings.Contains(metrics, `fhir_cdc_stream_state{state="`+string(c.shown)+`",stream="main"} 1`) {
				t.Errorf("/metrics: %s", metrics)
			}
			if c.state != daemon.StandingBy {
				return
			}
			if strings.Contains(status, `"owner"`) {
				t.Errorf("/status names an owner: %s", status)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/control/pause", strings.NewReader(`{"stream":"main"}`))
			r.Header.Set("Authorization", "Bearer token")
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != http.StatusConflict || strings.Contains(w.Body.String(), "self") || strings.Contains(w.Body.String(), "Kafka") == c.ready {
				t.Errorf("pause: %d %s", w.Code, w.Body)
			}
		})
	}
}
