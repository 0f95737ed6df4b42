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
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fhir-cdc/fhir-cdc/daemon"
)

const secret = "0123456789abcdef"

// desk is a port with controls, and what was done through it.
type desk struct {
	handler  http.Handler
	server   *Server
	done     []string
	auditErr error
	logs     *observer.ObservedLogs
}

func controlled(t *testing.T) *desk {
	t.Helper()
	d := &desk{}
	core, logs := observer.New(zap.DebugLevel)
	d.logs = logs
	note := func(what string) func(string) error {
		return func(of string) error { d.done = append(d.done, what+" "+of); return nil }
	}
	here := View{Progress: daemon.Progress{Stream: "main", State: daemon.Running}}
	there := View{Progress: daemon.Progress{Stream: "audit-events", State: daemon.StandingBy}, Owner: "two"}
	d.server = New(Options{Hosts: []string{"example.com"}, Name: "test", Controls: Controls{
		Token: func() string { return secret },
		Pause: note("pause"), Resume: note("resume"), SetLevel: note("level"), Level: func() string { return "info" },
		CheckLevel: func(level string) error {
			if level != "debug" {
				return errors.New("no level")
			}
			return nil
		},
		Audit: func(_ context.Context, control, stream string, details map[string]any) error {
			d.done = append(d.done, "audit "+control+" "+stream)
			if details["client"] != "192.0.2.1" {
				t.Errorf("details %v", details)
			}
			return d.auditErr
		},
	}}, func() []View { return []View{here, there} }, NewRegistry(), zap.New(core))
	d.server.now = func() time.Time { return noon }
	d.handler = d.server.handler()
	return d
}

// ask sends a control; headers are name, value, name, value.
func (d *desk) ask(t *testing.T, path, body string, headers ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+secret)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestControls(t *testing.T) {
	for name, c := range map[string]struct {
		path, body string
		headers    []string
		code       int
		text, done string
	}{
		"pause":             {"/control/pause", `{"stream":"main"}`, nil, 200, "Stream main pauses.", "audit pause main, pause main"},
		"resume":            {"/control/resume", `{"stream":"main"}`, nil, 200, "Stream main goes on.", "audit resume main, resume main"},
		"level":             {"/control/log-level", `{"level":"debug"}`, nil, 200, "Log level is debug.", "audit log-level , level debug"},
		"no token":          {"/control/pause", `{"stream":"main"}`, []string{"Authorization", ""}, 401, "missing or wrong", ""},
		"wrong token":       {"/control/pause", `{"stream":"main"}`, []string{"Authorization", "Bearer 0123456789abcdee"}, 401, "missing or wrong", ""},
		"longer token":      {"/control/pause", `{"stream":"main"}`, []string{"Authorization", "Bearer " + secret + "0"}, 401, "missing or wrong", ""},
		"another scheme":    {"/control/pause", `{"stream":"main"}`, []string{"Authorization", "Basic " + secret}, 401, "missing or wrong", ""},
		"another site":      {"/control/pause", `{"stream":"main"}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, "another site", ""},
		"another origin":    {"/control/pause", `{"stream":"main"}`, []string{"Origin", "https://evil.example"}, 403, "another site", ""},
		"a form":            {"/control/pause", `stream=main`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "must be JSON", ""},
		"nonsense":          {"/control/pause", `{"stream":`, nil, 400, "not the JSON", ""},
		"unknown member":    {"/control/pause", `{"streams":"main"}`, nil, 400, "not the JSON", ""},
		"two bodies":        {"/control/pause", `{"stream":"main"}{"stream":"main"}`, nil, 400, "not the JSON", ""},
		"what follows":      {"/control/pause", `{"stream":"main"} x`, nil, 400, "not the JSON", ""},
		"a closing bracket": {"/control/pause", `{"stream":"main"}}`, nil, 400, "not the JSON", ""},
		"white space":       {"/control/pause", `{"stream":"main"}` + "\n", nil, 200, "Stream main pauses.", "audit pause main, pause main"},
		"no level":          {"/control/log-level", `{"level":"loud"}`, nil, 400, "no level", ""},
		"unknown stream":    {"/control/pause", `{"stream":"x"}`, nil, 409, "there is no stream", ""},
		"carried elsewhere": {"/control/pause", `{"stream":"audit-events"}`, nil, 409, "ask the status port of two", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := controlled(t)
			code, text := d.ask(t, c.path, c.body, c.headers...)
			if code != c.code || !strings.Contains(text, c.text) || strings.Join(d.done, ", ") != c.done {
				t.Errorf("%d %s, done: %v; want %d %q %q", code, text, d.done, c.code, c.text, c.done)
			}
			for _, entry := range d.logs.All() {
				for _, f := range entry.Context {
					if f.Type == zapcore.StringType && f.String == "" {
						t.Errorf("the log has an empty %s", f.Key)
					}
					if strings.Contains(f.String, secret[:15]) {
						t.Errorf("the log shows the token: %v", entry)
					}
				}
			}
		})
	}
}

// Without a record in the audit topic nothing is paused; the log's level, which is wanted
// when Kafka is away, is changed all the same.
func TestControlsWithoutAudit(t *testing.T) {
	d := controlled(t)
	d.auditErr = errors.New("no broker")
	if code, text := d.ask(t, "/control/pause", `{"stream":"main"}`); code != http.StatusServiceUnavailable || !strings.Contains(text, "Not done") {
		t.Errorf("pause: %d %s", code, text)
	}
	if code, text := d.ask(t, "/control/log-level", `{"level":"debug"}`); code != http.StatusOK || !strings.Contains(text, "could not be written") {
		t.Errorf("level: %d %s", code, text)
	}
	if got, want := strings.Join(d.done, ", "), "audit pause main, audit log-level , level debug"; got != want {
		t.Errorf("done %q, want %q", got, want)
	}
}

func TestControlsDoNotExistWithoutAToken(t *testing.T) {
	for _, path := range []string{"/control/pause", "/control/resume", "/control/log-level"} {
		w := httptest.NewRecorder()
		serve().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader("{}")))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if _, text := get(t, serve(), "/status"); !strings.Contains(text, `"controls":false`) {
		t.Errorf("status says: %s", text)
	}
}

// A client that guesses is soon told to wait, and no longer fills the log. The right token
// never has to, not from the same address either, as behind a proxy.
func TestControlsAreBounded(t *testing.T) {
	d := controlled(t)
	for n := range 3 * controlBurst {
		want := http.StatusUnauthorized
		if n >= controlBurst {
			want = http.StatusTooManyRequests
		}
		if code, _ := d.ask(t, "/control/pause", "{}", "Authorization", "Bearer guess"); code != want {
			t.Fatalf("code %d for guess %d, want %d", code, n+1, want)
		}
	}
	if lines := d.logs.Len(); lines != controlBurst {
		t.Errorf("%d lines in the log, want %d", lines, controlBurst)
	}
	for range 3 * controlBurst {
		if code, text := d.ask(t, "/control/pause", `{"stream":"main"}`); code != http.StatusOK {
			t.Fatalf("code %d %s with the right token", code, text)
		}
	}
	d.server.now = func() time.Time { return noon.Add(controlEvery) }
	if code, _ := d.ask(t, "/control/pause", "{}", "Authorization", "Bearer guess"); code != http.StatusUnauthorized {
		t.Errorf("code %d after a pause", code)
	}
}

// Looking at the page asks for no secret: a token in a file is read for each use of a control.
func TestStatusAsksForNoToken(t *testing.T) {
	d := controlled(t)
	asked := 0
	d.server.opts.Controls.Token = func() string { asked++; return secret }
	if _, text := get(t, d.handler, "/status"); !strings.Contains(text, `"controls":true`) || asked > 0 {
		t.Errorf("the token was asked for %d times; %s", asked, text)
	}
	if code, _ := d.ask(t, "/control/pause", `{"stream":"main"}`); code != http.StatusOK || asked != 1 {
		t.Errorf("code %d, the token was asked for %d times", code, asked)
	}
}

func TestLimiterForgetsTheOldest(t *testing.T) {
	l := newLimiter()
	for i := range maxClients + 50 {
		l.allow(time.Duration(i).String(), noon.Add(time.Duration(i)))
	}
	if len(l.clients) != maxClients || l.clients["0s"] != nil || l.clients[time.Duration(maxClients+49).String()] == nil {
		t.Errorf("%d clients remembered", len(l.clients))
	}
}
