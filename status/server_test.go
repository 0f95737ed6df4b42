package status

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

func views(streams ...daemon.Progress) func() []View {
	all := make([]View, len(streams))
	for i, p := range streams {
		all[i].Progress = p
	}
	return func() []View { return all }
}

func serve(streams ...daemon.Progress) http.Handler {
	s := New(Options{Hosts: []string{"example.com"}, Name: "test", Instance: "one", Version: "v1", Stuck: time.Minute, Acquire: time.Minute}, views(streams...), NewRegistry(), zap.NewNop())
	s.now = func() time.Time { return noon }
	return s.handler()
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
	beginning := daemon.Progress{Stream: "main", State: daemon.StandingBy}
	standby := daemon.Progress{Stream: "main", State: daemon.StandingBy, HasPosition: true}
	missing := standby
	missing.Missing = "no longer stored"
	paused := daemon.Progress{Stream: "main", State: daemon.Paused, HasPosition: true}
	looking := running
	looking.Mapping = ago(2 * time.Minute)
	unpublished := running
	unpublished.Committing = ago(16 * time.Second)
	first := daemon.Progress{Stream: "main", State: daemon.Acquiring, Since: ago(time.Second)}
	acquiring := first
	acquiring.HasPosition = true
	again := acquiring
	again.Failed, again.LastError = true, "no coordinator"
	unfit := standby
	unfit.Unfit = "the login is refused"
	cutOff := standby
	cutOff.Broken, cutOff.LastErrorAt, cutOff.LastError = ago(16*time.Second), ago(2*time.Second), "connection refused"
	slow := acquiring
	slow.Since = ago(2 * time.Minute)
	away := running
	away.Broken, away.LastErrorAt, away.LastError = ago(16*time.Second), ago(2*time.Second), "connection refused"
	dead := away
	dead.Broken, dead.Read = ago(time.Hour), ago(time.Hour)
	mute := running
	mute.Read, mute.AnswerLimits.Read = ago(21*time.Second), 5*time.Second
	unheard := mute
	unheard.Read = ago(19 * time.Second)
	full := running
	full.Blocked, full.Mapping, full.AnswerLimits.Facts = true, ago(20*time.Second), time.Second
	lateFacts := full
	lateFacts.AnswerLimits.Facts = 10 * time.Second
	opening := daemon.Progress{Stream: "main", State: daemon.Acquiring, HasPosition: true, Since: ago(time.Second), Broken: ago(time.Minute), LastErrorAt: ago(time.Second), LastError: "no primary"}
	waiting := daemon.Progress{Stream: "main", State: daemon.Waiting, LastError: errors.New("no broker").Error()}
	for name, c := range map[string]struct {
		streams []daemon.Progress
		path    string
		code    int
		text    string
	}{
		"alive":                           {[]daemon.Progress{running}, "/livez", 200, "ok"},
		"stuck":                           {[]daemon.Progress{running, silent}, "/livez", 503, "stream main has not heard from MongoDB for 2 min"},
		"has just begun":                  {[]daemon.Progress{fresh}, "/livez", 200, "ok"},
		"waits for Kafka to take events":  {[]daemon.Progress{blocked}, "/livez", 200, "ok"},
		"a restart does not mend it":      {[]daemon.Progress{waiting}, "/livez", 200, "ok"},
		"ready":                           {[]daemon.Progress{running}, "/readyz", 200, "ok, 1 stream runs here"},
		"a stand-by is ready":             {[]daemon.Progress{standby}, "/readyz", 200, "ok, standing by"},
		"its position is gone":            {[]daemon.Progress{missing}, "/readyz", 503, "stream main is standing_by: no longer stored"},
		"waiting is not ready":            {[]daemon.Progress{running, waiting}, "/readyz", 503, "stream main is waiting: no broker"},
		"a look-up hangs":                 {[]daemon.Progress{looking}, "/livez", 503, "stream main has been looking facts up for 2 min"},
		"a paused one is ready":           {[]daemon.Progress{paused}, "/readyz", 200, "ok, paused: main"},
		"Kafka is away":                   {[]daemon.Progress{unpublished}, "/readyz", 503, "stream main has been waiting for Kafka for 16 s"},
		"but a restart is no help":        {[]daemon.Progress{unpublished}, "/livez", 200, "ok"},
		"MongoDB is away":                 {[]daemon.Progress{away}, "/readyz", 503, "stream main has been waiting for MongoDB for 16 s: connection refused"},
		"no restart while it tries again": {[]daemon.Progress{dead}, "/livez", 200, "ok"},
		"MongoDB hangs":                   {[]daemon.Progress{mute}, "/readyz", 503, "stream main has been waiting for MongoDB for 16 s"},
		"MongoDB may take its time":       {[]daemon.Progress{unheard}, "/readyz", 200, "ok, 1 stream runs here"},
		"MongoDB has no facts":            {[]daemon.Progress{full}, "/readyz", 503, "stream main has been waiting for MongoDB for 19 s"},
		"facts may come late":             {[]daemon.Progress{lateFacts}, "/readyz", 200, "ok, 1 stream runs here"},
		"MongoDB is away at the start":    {[]daemon.Progress{opening}, "/readyz", 503, "stream main has been waiting for MongoDB for 1 min: no primary"},
		"acquiring is ready":              {[]daemon.Progress{acquiring}, "/readyz", 200, "ok, beginning here: main"},
		"not after an error":              {[]daemon.Progress{again}, "/readyz", 503, "stream main is being acquired again: no coordinator"},
		"a stand-by that could not":       {[]daemon.Progress{unfit}, "/readyz", 503, "stream main is standing_by, and this process could not take it over: the login is refused"},
		"a stand-by without MongoDB":      {[]daemon.Progress{cutOff}, "/readyz", 503, "stream main has been waiting for MongoDB for 16 s: connection refused"},
		"but not for ever":                {[]daemon.Progress{slow}, "/readyz", 503, "stream main has been acquiring for 2 min"},
		"not before its position":         {[]daemon.Progress{first}, "/readyz", 503, "stream main is being acquired: no position of it is known yet"},
		"not before a position is stored": {[]daemon.Progress{beginning}, "/readyz", 503, "stream main has not begun: no process has stored a position of it yet"},
		"nothing is known yet":            {nil, "/readyz", 503, "starting: topics are being checked"},
		"starting, too":                   {nil, "/startupz", 200, "starting: topics are being checked"},
		"started":                         {[]daemon.Progress{beginning}, "/startupz", 200, "ok"},
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

func TestSecurityHeaders(t *testing.T) {
	for _, path := range []string{"/livez", "/status", "/metrics", "/nowhere"} {
		w := httptest.NewRecorder()
		serve().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if got := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; ") || strings.Contains(got, "unsafe") {
			t.Errorf("%s: policy %q", path, got)
		}
		for _, name := range []string{"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Cross-Origin-Resource-Policy"} {
			if w.Header().Get(name) == "" {
				t.Errorf("%s: no %s", path, name)
			}
		}
	}
}

// carrying is a stream 90 s behind the cluster and an hour from the oplog's end.
func carrying() View {
	behind := bson.Timestamp{T: uint32(ago(90 * time.Second).Unix()), I: 1}
	return View{
		Progress: daemon.Progress{
			Stream: "main", State: daemon.Running, Since: ago(time.Hour), Read: ago(time.Second),
			ClusterTime: behind, Handled: behind,
			Events: map[daemon.Tally]uint64{
				{Kind: mapper.KindChange, Action: daemon.Create}: 4, {Kind: mapper.KindChange, Action: daemon.Update}: 3,
			},
			DeadLetters: map[mapper.Kind]uint64{mapper.KindChange: 1},
			Resources:   map[string]uint64{"Consent": 7, "Patient": 0}, Reasons: map[daemon.Reason]uint64{{Kind: mapper.KindChange, Text: "id is missing"}: 1},
			Commits: 3, Interruptions: 2, Fenced: 1, OpenCursors: 1,
			Reopenings:    map[watcher.Cause]uint64{watcher.CauseElection: 1, watcher.CauseNetwork: 0},
			CommitSeconds: daemon.Histogram{Bounds: []float64{.1, 1}, Counts: []uint64{2, 0, 1}, Sum: 5.1},
			LastError:     "gone", Advice: "wait", LastErrorAt: ago(time.Minute),
		},
		Window: watcher.Window{Oldest: bson.Timestamp{T: behind.T - 3600}, Newest: bson.Timestamp{T: behind.T + 80}}, Sampled: ago(4 * time.Second),
		Owner: "one", Hour: Hour{Now: 2.5, Points: []Point{{Length: 2 * time.Second}, {Length: 2 * time.Second, Events: 5}}},
	}
}

func TestStatus(t *testing.T) {
	standby := View{Progress: daemon.Progress{Stream: "other", State: daemon.StandingBy, ClusterTime: bson.Timestamp{T: 7}}, Owner: "two"}
	s := New(Options{Hosts: []string{"example.com"}, Name: "test", Instance: "one"}, func() []View { return []View{carrying(), standby} }, NewRegistry(), zap.NewNop())
	s.now = func() time.Time { return noon }
	_, text := get(t, s.handler(), "/status")
	var got summary
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	first := got.Streams[0]
	if got.Name != "test" || first.State != "running" || *first.PositionAgeSeconds != 90 || *first.LagSeconds != 80 || *first.OplogLeftSeconds != 3600 ||
		first.Events["change"] != 7 || first.ClusterTime != "2026-11-23T11:58:30Z" || first.LastErrorAt != "2026-11-23T11:59:00Z" ||
		first.Owner != "one" || first.Advice != "wait" || first.Hour.Rates[1] != 2.5 || first.Hour.PerSecond != 2.5 || first.Hour.Seconds != 4 || len(first.Reopenings) != 1 {
		t.Errorf("status %s", text)
	}
	// A stand-by's position is of the last time that it carried the stream.
	if other := got.Streams[1]; other.Here || other.PositionAgeSeconds != nil || other.ClusterTime != "" || other.Owner != "two" {
		t.Errorf("stand-by %+v", other)
	}
}

// What waits for MongoDB says so, with what to do, given up by the driver or not.
func TestStatusOfAnOutage(t *testing.T) {
	refused := carrying()
	refused.Read, refused.Broken = ago(50*time.Second), ago(50*time.Second)
	refused.LastError, refused.LastErrorAt, refused.Advice = "connection refused", ago(time.Second), "See that MongoDB is up"
	mute := carrying()
	mute.Read = ago(40 * time.Second)
	taken := mute
	taken.Window, taken.Sampled = watcher.Window{}, time.Time{} // by a process that MongoDB has never answered
	alone := carrying()
	alone.Uncommitted = 80 * time.Second
	brief := carrying()
	brief.Broken = ago(time.Second)
	for name, c := range map[string]struct {
		view      View
		pending   float64
		lastError string
		advice    string
		lag       float64
	}{
		"away":            {refused, 50, "connection refused", refused.Advice, 80},
		"hangs":           {mute, 40, noAnswer, daemon.AdviceMongoDBAway, 80},
		"taken over":      {taken, 40, noAnswer, daemon.AdviceMongoDBAway, 90},
		"has no majority": {alone, 0, noMajority, daemon.AdviceNoMajority, 80},
		"for a moment":    {brief, 0, "gone", "wait", 80},
		"nothing of all":  {carrying(), 0, "gone", "wait", 80},
	} {
		t.Run(name, func(t *testing.T) {
			got := describe(c.view, noon)
			if got.LagSeconds == nil || *got.LagSeconds != c.lag {
				t.Errorf("the lag is said to be %v", got.LagSeconds)
			}
			if got.ReadPendingSeconds != c.pending || got.LastError != c.lastError || got.Advice != c.advice {
				t.Errorf("pending %v, error %q, advice %q", got.ReadPendingSeconds, got.LastError, got.Advice)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	standby := View{Progress: daemon.Progress{Stream: "other", State: daemon.StandingBy, ClusterTime: bson.Timestamp{T: 7}}, Owner: "two"}
	m := NewMetrics("events", "v1", func() []View { return []View{carrying(), standby} }, Counts{
		Lookups: func() []Lookup { return []Lookup{{Fact: "request_id", Asked: 5, Missed: 2}} },
		Logged:  func() map[string]uint64 { return map[string]uint64{"error": 4} },
	})
	m.now = func() time.Time { return noon }
	problems, err := testutil.CollectAndLint(m)
	if err != nil || len(problems) > 0 {
		t.Fatalf("lint: %v %v", problems, err)
	}
	want := `
# HELP fhir_cdc_commit_seconds Duration of a commit of a batch with events.
# TYPE fhir_cdc_commit_seconds histogram
fhir_cdc_commit_seconds_bucket{stream="main",le="0.1"} 2
fhir_cdc_commit_seconds_bucket{stream="main",le="1"} 2
fhir_cdc_commit_seconds_bucket{stream="main",le="+Inf"} 3
fhir_cdc_commit_seconds_sum{stream="main"} 5.1
fhir_cdc_commit_seconds_count{stream="main"} 3
fhir_cdc_commit_seconds_bucket{stream="other",le="+Inf"} 0
fhir_cdc_commit_seconds_sum{stream="other"} 0
fhir_cdc_commit_seconds_count{stream="other"} 0
# HELP fhir_cdc_dead_letter_reasons_total Those of dead_letters_total by reason, each from its first on.
# TYPE fhir_cdc_dead_letter_reasons_total counter
fhir_cdc_dead_letter_reasons_total{kind="change",reason="id is missing",stream="main"} 1
# HELP fhir_cdc_resource_events_total Those of events_total by resource type; of access logs and AuditEvents by collection.
# TYPE fhir_cdc_resource_events_total counter
fhir_cdc_resource_events_total{resource_type="Consent",stream="main"} 7
fhir_cdc_resource_events_total{resource_type="Patient",stream="main"} 0
# HELP fhir_cdc_events_total Events committed by this process; action is create, update or delete.
# TYPE fhir_cdc_events_total counter
fhir_cdc_events_total{action="create",kind="change",stream="main"} 4
fhir_cdc_events_total{action="update",kind="change",stream="main"} 3
# HELP fhir_cdc_lookups_missed_total Facts of lookups_total that were not found; the event goes out without them.
# TYPE fhir_cdc_lookups_missed_total counter
fhir_cdc_lookups_missed_total{fact="request_id"} 2
# HELP fhir_cdc_reopenings_total Times that the change stream broke and was opened again in place.
# TYPE fhir_cdc_reopenings_total counter
fhir_cdc_reopenings_total{cause="election",stream="main"} 1
fhir_cdc_reopenings_total{cause="network",stream="main"} 0
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "fhir_cdc_commit_seconds", "fhir_cdc_events_total", "fhir_cdc_dead_letter_reasons_total", "fhir_cdc_resource_events_total", "fhir_cdc_lookups_missed_total", "fhir_cdc_reopenings_total"); err != nil {
		t.Error(err)
	}
	want = "# HELP fhir_cdc_build_info 1, with the key name, the program's version and Go's.\n" +
		"# TYPE fhir_cdc_build_info gauge\nfhir_cdc_build_info{goversion=\"" + runtime.Version() + "\",name=\"events\",version=\"v1\"} 1\n"
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "fhir_cdc_build_info"); err != nil {
		t.Error(err)
	}
	// A repair's figures are there while it runs here.
	repairing := NewMetrics("events", "v1", func() []View {
		v := carrying()
		v.State, v.Repair = daemon.Repairing, &daemon.RepairProgress{Scanned: 30, Total: 40, Left: 5 * time.Second}
		seen := standby
		seen.Repair = v.Repair
		return []View{v, seen}
	}, Counts{})
	for name, value := range map[string]string{"repair_documents": "40", "repair_scanned_documents": "30", "repair_left_seconds": "5"} {
		if n := testutil.CollectAndCount(m, Namespace+name); n != 0 {
			t.Errorf("%s is there without a repair", name)
		}
		if err := testutil.CollectAndCompare(repairing, strings.NewReader(gaugeOfMain(name, value)), Namespace+name); err != nil {
			t.Error(err)
		}
	}
	// What is of now is shown of the carried stream alone.
	for name, value := range map[string]string{"lag_seconds": "80", "position_age_seconds": "90", "oplog_left_seconds": "3600", "sample_age_seconds": "4", "read_age_seconds": "1"} {
		if err := testutil.CollectAndCompare(m, strings.NewReader(gaugeOfMain(name, value)), Namespace+name); err != nil {
			t.Error(err)
		}
	}
}

// gaugeOfMain is the text of a gauge of the stream main.
func gaugeOfMain(name, value string) string {
	var help string
	for _, d := range Definitions() {
		if d.Name == name {
			help = d.Help
		}
	}
	name = Namespace + name
	return "# HELP " + name + " " + help + "\n# TYPE " + name + " gauge\n" + name + "{stream=\"main\"} " + value + "\n"
}
