package status

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// made are details with each member once.
func made(_ context.Context, ids bool) *Details {
	d := &Details{
		Time: noon, IDs: ids, Unread: "no broker",
		Events:        []DetailedEvent{{Stream: "main", Kind: "change", ResourceType: "Consent", Action: "create", Document: "#1", Changed: noon, Committed: noon}},
		DeadLetters:   []DetailedLetter{{Place: "0@1", Stored: noon, Stream: "main", Kind: "export", ResourceType: "ExportStatus", Document: "#2", Reason: "status is missing"}},
		Audit:         []DetailedAct{{Time: noon, Action: "control", Stream: "main", Actor: "one", Details: "control=pause"}},
		Backfills:     []DetailedBackfill{{Name: "backfill-1", State: "begun", Since: noon, Actor: "me", Known: true, Collection: "fhir.Consent_4_0_0", Documents: 3, Events: 2, DeadLetters: 1}},
		Configuration: []Setting{{Key: "name", Value: "test", Source: "default"}},
	}
	if ids {
		d.Events[0].Document, d.Events[0].ID = "c-1", "e-1"
	}
	return d
}

// detailed asks for the details with an Authorization.
func detailed(t *testing.T, h http.Handler, path, authorization string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// The details' JSON is what docs/http.md says.
func TestDetails(t *testing.T) {
	d := controlled(t)
	d.server.opts.Details = made
	h := d.server.handler()
	const at = `"2026-11-23T12:00:00Z"`
	want := `{"time":` + at + `,"ids":false,"events":[{"stream":"main","kind":"change","resourceType":"Consent","action":"create","document":"#1","changed":` + at + `,"committed":` + at + `}],` +
		`"deadLetters":[{"place":"0@1","stored":` + at + `,"stream":"main","kind":"export","resourceType":"ExportStatus","document":"#2","reason":"status is missing","retried":false}],` +
		`"audit":[{"time":` + at + `,"action":"control","stream":"main","actor":"one","details":"control=pause"}],` +
		`"backfills":[{"name":"backfill-1","state":"begun","since":` + at + `,"actor":"me","known":true,"collection":"fhir.Consent_4_0_0","documents":3,"events":2,"deadLetters":1}],` +
		`"unread":"no broker","configuration":[{"key":"name","value":"test","source":"default"}]}`
	if code, text := detailed(t, h, "/details", "Bearer "+secret); code != http.StatusOK || text != want {
		t.Errorf("%d %s, want\n%s", code, text, want)
	}
	for path, shown := range map[string]bool{"/details?ids=shown": true, "/details?ids=": false, "/details?ids=1": false} {
		if code, text := detailed(t, h, path, "Bearer "+secret); code != http.StatusOK || strings.Contains(text, `"document":"c-1","id":"e-1"`) != shown {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}

// Without the right token there is nothing to see, and nothing is made to be seen.
func TestDetailsNeedTheToken(t *testing.T) {
	d := controlled(t)
	d.server.opts.Details = func(context.Context, bool) *Details {
		t.Error("details are made for somebody without the token")
		return &Details{}
	}
	h := d.server.handler()
	for _, authorization := range []string{"", "Bearer ", "Bearer " + secret + "0", "Basic " + secret} {
		if code, text := detailed(t, h, "/details", authorization); code != http.StatusUnauthorized || text != `{"error":"The token is missing or wrong."}` {
			t.Errorf("%q: %d %s", authorization, code, text)
		}
	}
	for range controlBurst {
		detailed(t, h, "/details", "Bearer guess")
	}
	if code, _ := detailed(t, h, "/details", "Bearer guess"); code != http.StatusTooManyRequests {
		t.Errorf("code %d for one guess too many", code)
	}
	if code, _ := detailed(t, h, "http://evil.example.org/details", "Bearer "+secret); code != http.StatusForbidden {
		t.Errorf("code %d by a stranger's name", code)
	}
}

// Where no token is set there are no details.
func TestDetailsDoNotExistWithoutAToken(t *testing.T) {
	s := New(Options{Hosts: []string{"example.com"}, Details: made, Controls: Controls{Token: func() string { return "" }}}, views(), NewRegistry(), controlled(t).server.log)
	for _, authorization := range []string{"", "Bearer ", "Bearer " + secret} {
		if code, text := detailed(t, s.handler(), "/details", authorization); code != http.StatusNotFound {
			t.Errorf("%q: %d %s", authorization, code, text)
		}
	}
}
