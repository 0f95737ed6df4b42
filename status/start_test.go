package status

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// A start that waits for Kafka says so to all who ask, and is no reason for a restart.
func TestStartThatWaits(t *testing.T) {
	s := New(Options{Hosts: []string{"example.com"}, Waits: func() string { return "Kafka: connection refused" }}, views(), NewRegistry(), zap.NewNop()).handler()
	const want = "starting: waits for Kafka: connection refused"
	for path, wantCode := range map[string]int{"/startupz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		if code, text := get(t, s, path); code != wantCode || text != want {
			t.Errorf("%s: %d %q, want %d %q", path, code, text, wantCode, want)
		}
	}
	if code, text := get(t, s, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d %q", code, text)
	}
	if _, text := get(t, s, "/status"); !strings.Contains(text, `"readyz":"`+want+`"`) {
		t.Errorf("/status: %s", text)
	}
}
