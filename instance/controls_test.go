package instance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// A token's file that is at fault is in the log, once and without what it holds; the token
// before it stays, and not the one of the start.
func TestControlToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second, short := strings.Repeat("a", 16), strings.Repeat("b", 16), "tooshort"
	write(first)
	cfg, err := config.Load(config.LoadOptions{Environ: append([]string{"MONGO_URL=mongodb://u:hunter2@db:27017", "KAFKA_URLS=k:9092", "ENABLE_EVENTS_KAFKA=1"}, "FHIR_CDC_HTTP_TOKEN_FILE="+path)})
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	token := &controlToken{cfg: cfg, log: zap.New(core), last: cfg.HTTP.Token}
	expect := func(what, want string, lines int) {
		t.Helper()
		for range 3 {
			if got := token.current(); got != want {
				t.Errorf("%s: token %q, want %q", what, got, want)
			}
		}
		if got := logs.Len(); got != lines {
			t.Errorf("%s: %d lines in the log, want %d", what, got, lines)
		}
	}
	expect("at the start", first, 0)
	write(second)
	expect("rotated", second, 0)
	write(short)
	expect("too short", second, 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("gone", second, 2)
	write(first)
	expect("there again", first, 2)
	write(short)
	expect("too short again", first, 3)
	for _, entry := range logs.All() {
		if text := entry.ContextMap()["error"].(string); strings.Contains(text, short) || !strings.Contains(text, "http.token") {
			t.Errorf("the log says %q", text)
		}
	}
}
