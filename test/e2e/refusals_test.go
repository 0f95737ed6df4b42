package e2e_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// Whatever is wrong, every command says it in one line with exit code 2, and changes
// nothing: no topic, no record, no position.
func TestEveryCommandRefuses(t *testing.T) {
	i := install(t, fhirserver.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout)
	t.Cleanup(cancel)
	i.ctx = ctx
	i.start()
	reader := i.reader()
	consent := i.consent("c-1")
	i.until(reader, changeID(consent))
	login := strings.Replace(i.env["MONGO_URL"], "mongodb://", "mongodb://nobody:wrong@", 1)
	wrongMongoDB := []string{"MONGO_URL", login, "RESOURCE_HISTORY_MONGO_URL", login, "AUDIT_EVENT_MONGO_URL", login, "ACCESS_LOGS_CLUSTER_MONGO_URL", login}
	wrongKafka := []string{"FHIR_CDC_KAFKA_SASL_ENABLED", "true", "FHIR_CDC_KAFKA_SASL_MECHANISM", "plain", "FHIR_CDC_KAFKA_SASL_USERNAME", "nobody", "FHIR_CDC_KAFKA_SASL_PASSWORD", "wrong"}
	nowhere := []string{"FHIR_CDC_TOPICS_CREATE", "", "KAFKA_RESOURCE_CHANGE_TOPIC", i.site.Name + ".nowhere", "FHIR_CDC_TOPICS_POSITIONS", i.site.Name + ".no-positions"}
	commands := map[string][]string{
		"position list": {"position", "list"}, "position show": {"position", "show", "main"}, "position history": {"position", "history", "main"},
		"position set": {"position", "set", "main", "--now", "--force"},
		"replay":       {"replay", "--from-time", "1m", "--same-topics"},
		"backfill":     {"backfill", "--resources", "Consent"},
		"verify":       {"verify", "--since", "1m"},
		"tail":         {"tail", "--no-follow"},
	}
	type fault struct {
		name string
		env  []string
		args func(words []string) []string // nil: the command has no such fault
		says string
	}
	with := func(more ...string) func([]string) []string {
		return func(words []string) []string { return append(slices.Clone(words), more...) }
	}
	as := func(words []string) []string { return words }
	faults := map[string][]fault{}
	add := func(f fault, names ...string) {
		for _, name := range names {
			faults[name] = append(faults[name], f)
		}
	}
	add(fault{name: "wrong MongoDB login", env: wrongMongoDB, args: as, says: "MongoDB user"}, "position set", "replay", "backfill", "verify")
	add(fault{name: "wrong Kafka login", env: wrongKafka, args: as, says: "SASL"}, "position list", "position show", "position history", "position set", "replay", "backfill", "verify", "tail")
	add(fault{name: "missing topics", env: nowhere, args: as, says: i.site.Name + ".no"}, "position list", "position show", "position history", "position set", "replay", "backfill", "verify", "tail")
	unknown := func(words []string) []string {
		words = slices.Clone(words)
		words[2] = "mian"
		return words
	}
	add(fault{name: "unknown stream", args: unknown, says: `"mian"`}, "position show", "position history", "position set")
	add(fault{name: "unknown stream", args: with("--stream", "mian"), says: `"mian"`}, "replay", "verify")
	add(fault{name: "unknown kind", args: with("--kinds", "chnage"), says: "chnage"}, "replay", "backfill", "verify", "tail")
	add(fault{name: "nonsense time", args: with("--since", "yesterday-ish"), says: "it is no time"}, "backfill", "verify", "tail")
	add(fault{name: "nonsense time", args: with("--from-time", "yesterday-ish"), says: "it is no time"}, "replay", "position set")
	add(fault{name: "future", args: with("--since", "2999-01-01"), says: "future"}, "backfill", "verify", "tail")
	add(fault{name: "nonsense output", args: with("--output", "xml"), says: "neither table nor json"}, "position list", "position show", "replay", "backfill", "verify", "tail")
	add(fault{name: "unknown flag", args: with("--nonsense"), says: "--nonsense"}, slices.Collect(maps.Keys(commands))...)

	before := i.position().Position
	admin := harness.Admin(t, i.site.Brokers)
	topics, err := admin.ListTopics(i.ctx)
	i.check(err)
	for name, words := range commands {
		for _, f := range faults[name] {
			t.Run(name+", "+f.name, func(t *testing.T) {
				i := i.of(t).with(f.env...)
				stdout, stderr, code := i.command(f.args(words)...)
				lines := strings.Split(strings.TrimSpace(stderr), "\n")
				if last := len(lines) - 1; strings.HasPrefix(lines[last], "Run 'fhir-cdc") {
					lines = lines[:last]
				}
				if code != exitUsage || stdout != "" || !strings.Contains(stderr, f.says) {
					t.Errorf("exit code %d, want %d and %q:\n%s%s", code, exitUsage, f.says, stdout, stderr)
				}
				// Missing topics take a line each.
				if len(lines) != 1 && f.name != "missing topics" {
					t.Errorf("%d lines:\n%s", len(lines), stderr)
				}
			})
		}
	}
	now, err := admin.ListTopics(i.ctx)
	i.check(err)
	of := func(name string) bool { return !strings.HasPrefix(name, i.site.Name) }
	if diff := cmp.Diff(slices.DeleteFunc(topics.Names(), of), slices.DeleteFunc(now.Names(), of)); diff != "" {
		t.Errorf("topics (-before +after):\n%s", diff)
	}
	if after := i.position().Position; before == nil || after == nil || after.ClusterTime.T < before.ClusterTime.T {
		t.Errorf("the position was %+v and is %+v", before, after)
	}
	i.exactly(reader, changeID(consent), changeID(i.consent("the daemon goes on")))
}
