package e2e_test

import (
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// What cannot be done is refused in one line with exit code 2, and nothing is changed.
func TestReplayAndVerifyRefuse(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.start()
	reader := i.reader()
	consent := i.consent("c-1")
	i.until(reader, changeID(consent))
	replay := func(args ...string) []string { return append([]string{"replay"}, args...) }
	verify := func(args ...string) []string { return append([]string{"verify"}, args...) }
	login := strings.Replace(i.env["MONGO_URL"], "mongodb://", "mongodb://nobody:wrong@", 1)
	missing := []string{"FHIR_CDC_TOPICS_CREATE", "", "KAFKA_RESOURCE_CHANGE_TOPIC", i.site.Name + ".nowhere"}
	for _, test := range []struct {
		name string
		env  []string
		args []string
		says string
	}{
		{"replay, wrong login", []string{"MONGO_URL", login}, replay("--from-time", "1m", "--same-topics"), "check the MongoDB user"},
		{"verify, wrong login", []string{"MONGO_URL", login}, verify("--since", "1m"), "check the MongoDB user"},
		{"replay, missing topics", []string{"FHIR_CDC_TOPICS_CREATE", ""}, replay("--from-time", "1m", "--topic-prefix", "nowhere."), "nowhere."},
		{"verify, missing topics", missing, verify("--since", "1m"), ".nowhere"},
		{"replay, unknown stream", nil, replay("--from-time", "1m", "--same-topics", "--stream", "mian"), "mian"},
		{"verify, unknown stream", nil, verify("--since", "1m", "--stream", "mian"), "mian"},
		{"replay, no time", nil, replay("--from-time", "yesterday-ish", "--same-topics"), "it is no time"},
		{"verify, no time", nil, verify("--since", "yesterday-ish"), "it is no time"},
		{"replay, future", nil, replay("--from-time", "2999-01-01", "--same-topics"), "future"},
		{"verify, end before the beginning", nil, verify("--since", "1m", "--until", "2m"), "is not after"},
		{"replay, end before the beginning", nil, replay("--from-time", "1m", "--to-time", "2m", "--same-topics"), "ends before"},
		{"replay, no token", nil, replay("--from-token", "xyz", "--same-topics"), "no resume token"},
		{"replay, nowhere to", nil, replay("--from-time", "1m"), "say where to"},
		{"replay, unknown kind", nil, replay("--from-time", "1m", "--same-topics", "--kinds", "chnage"), "chnage"},
		{"verify, no beginning", nil, verify(), "--since"},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := i.of(t).with(test.env...)
			d, code := i.run(harness.Options{Command: test.args})
			lines := strings.Split(strings.TrimSpace(d.Logs()), "\n")
			// A flag that cannot be read also has the line that names --help.
			if last := len(lines) - 1; strings.HasPrefix(lines[last], "Run 'fhir-cdc") {
				lines = lines[:last]
			}
			if code != 2 || d.Stdout() != "" || !strings.Contains(d.Logs(), test.says) {
				t.Errorf("exit code %d, want 2 and %q:\n%s%s", code, test.says, d.Stdout(), d.Logs())
			}
			if len(lines) != 1 && !strings.Contains(test.name, "missing topics") {
				t.Errorf("%d lines:\n%s", len(lines), d.Logs())
			}
		})
	}
	i.exactly(reader, changeID(consent))
}
