package e2e_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// TestOutputsAreSafeForTerminals: ids, keys, headers and bodies hold what a terminal would
// take for commands, for a new line, or for a turn of direction. No command's output has it.
func TestOutputsAreSafeForTerminals(t *testing.T) {
	const wild = "con-\x1b[2J\r\n\x07\u009b31m\u202e\x7f\ufdd031\ufdd1x\ufdd2"
	i := install(t, fhirserver.Options{})
	d := i.start()
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	reader := i.reader()
	live := i.until(reader, changeID(i.consent(wild)))
	foreign := live[len(live)-1]
	value, err := json.Marshal(map[string]string{"resourceType": "AuditEvent", "id": wild})
	i.check(err)
	foreign.Value, foreign.Key = value, wild
	foreign.Headers = harness.Headers{{Key: wild, Value: wild}, {Key: "b3", Value: "\x9b2J\xff"}}
	noJSON := foreign
	noJSON.Value = []byte(wild + "\n\n")
	i.produce("", []harness.Record{foreign, noJSON})
	i.stop(d)

	for _, words := range [][]string{
		{"check"},
		{"check", "--output", "json"},
		{"tail", "--from-beginning", "--no-follow"},
		{"tail", "--from-beginning", "--no-follow", "--output", "json"},
		{"replay", "--from-time", since, "--dry-run"},
		{"replay", "--from-time", since, "--dry-run", "--output", "json"},
		{"backfill", "--dry-run"},
		{"backfill", "--dry-run", "--output", "json"},
		{"position", "list"},
		{"position", "show", "main"},
		{"position", "show", wild},
		{"verify", "--since", "1h"},
		{"verify", "--since", "1h", "--output", "json"},
		{"config", "validate", "--set", wild + "=1"},
	} {
		stdout, stderr, _ := i.command(words...)
		shown := false
		for line := range strings.Lines(stdout + stderr) {
			for _, r := range strings.TrimSuffix(line, "\n") {
				if !strconv.IsGraphic(r) || !utf8.ValidString(line) {
					t.Errorf("%q writes %q in %q", words, r, line)
					break
				}
			}
			shown = shown || strings.Contains(line, `con-\x1b[2J`) || strings.Contains(line, `con-\u001b[2J`)
			if strings.HasPrefix(line, "\\x07") {
				t.Errorf("%q lets an id begin a line: %q", words, line)
			}
		}
		if !shown && slices.Contains([]string{"check", "tail", "replay", "backfill"}, words[0]) {
			t.Errorf("%q does not show the id: %s%s", words, stdout, stderr)
		}
	}
}
