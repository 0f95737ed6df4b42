package status

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

func serve(streams ...daemon.Progress) http.Handler {
	progress := func() []daemon.Progress { return streams }
	s := New(Options{Name: "test", Instance: "one", Version: "v1", Stuck: time.Minute}, progress, NewRegistry(progress), zap.NewNop())
	s.now = func() time.Time { return noon }
	return s.Handler()
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestProbes(t *testing.T) {
	running := daemon.Progress{Stream: "main", State: daemon.Running, Since: ago(time.Hour), Read: ago(time.Second)}
	silent := running
	silent.Read = ago(2 * time.Minute)
	fresh := silent
	fresh.Since, fresh.Read = ago(time.Second), time.Time{}
	blocked := silent
	blocked.Blocked = true
	standby := daemon.Progress{Stream: "main", State: daemon.StandingBy}
	waiting := daemon.Progress{Stream: "main", State: daemon.Waiting, LastError: errors.New("no broker").Error()}
	for name, c := range map[string]struct {
		streams []daemon.Progress
		path    string
		code    int
		text    string
	}{
		"alive":                          {[]daemon.Progress{running}, "/livez", 200, "ok"},
		"stuck":                          {[]daemon.Progress{running, silent}, "/livez", 503, "stream main has not heard from MongoDB for 2m0s"},
		"has just begun":                 {[]daemon.Progress{fresh}, "/livez", 200, "ok"},
		"waits for Kafka to take events": {[]daemon.Progress{blocked}, "/livez", 200, "ok"},
		"a restart does not mend it":     {[]daemon.Progress{waiting}, "/livez", 200, "ok"},
		"ready":                          {[]daemon.Progress{running}, "/readyz", 200, "ok, 1 streams run here"},
		"a stand-by is ready":            {[]daemon.Progress{standby}, "/readyz", 200, "ok, standing by"},
		"waiting is not ready":           {[]daemon.Progress{running, waiting}, "/readyz", 503, "stream main is waiting: no broker"},
		"starting":                       {nil, "/startupz", 503, "starting: topics are being checked"},
		"started":                        {[]daemon.Progress{standby}, "/startupz", 200, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, text := get(t, serve(c.streams...), c.path); code != c.code || text != c.text {
				t.Errorf("%d %q, want %d %q", code, text, c.code, c.text)
			}
		})
	}
}

func TestOnlyGet(t *testing.T) {
	for _, path := range []string{"/livez", "/readyz", "/startupz", "/status"} {
		w := httptest.NewRecorder()
		serve().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
}

func TestStatus(t *testing.T) {
	_, text := get(t, serve(daemon.Progress{
		Stream: "main", State: daemon.Running, Since: ago(time.Hour),
		ClusterTime: bson.Timestamp{T: uint32(ago(90 * time.Second).Unix()), I: 1},
		Events:      map[mapper.Kind]uint64{mapper.KindChange: 7}, Commits: 3, LastError: "gone", LastErrorAt: ago(time.Minute),
	}), "/status")
	var got summary
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	s := got.Streams[0]
	if got.Name != "test" || s.State != "running" || *s.PositionAgeSeconds != 90 || s.Events["change"] != 7 ||
		s.ClusterTime != "2026-11-23T11:58:30Z" || s.LastErrorAt != "2026-11-23T11:59:00Z" {
		t.Errorf("status %s", text)
	}
}

func TestMetrics(t *testing.T) {
	m := NewMetrics(func() []daemon.Progress {
		return []daemon.Progress{{
			Stream: "main", State: daemon.Running, ClusterTime: bson.Timestamp{T: uint32(ago(30 * time.Second).Unix())}, Read: ago(time.Second),
			Events:      map[mapper.Kind]uint64{mapper.KindChange: 7, mapper.KindExport: 0},
			DeadLetters: map[mapper.Kind]uint64{mapper.KindChange: 1},
			Commits:     3, Interruptions: 2, Reopenings: 1,
		}}
	})
	m.now = func() time.Time { return noon }
	problems, err := testutil.CollectAndLint(m)
	if err != nil || len(problems) > 0 {
		t.Fatalf("lint: %v %v", problems, err)
	}
	want := `
# HELP fhir_cdc_events_total Events committed by this process.
# TYPE fhir_cdc_events_total counter
fhir_cdc_events_total{kind="change",stream="main"} 7
fhir_cdc_events_total{kind="export",stream="main"} 0
# HELP fhir_cdc_position_age_seconds Age of the oplog time of the committed position. An idle stream's grows to checkpoint.idle_interval and falls back.
# TYPE fhir_cdc_position_age_seconds gauge
fhir_cdc_position_age_seconds{stream="main"} 30
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "fhir_cdc_events_total", "fhir_cdc_position_age_seconds"); err != nil {
		t.Error(err)
	}
}
