package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// Whatever is wrong, every command says it in one line with exit code 2, and changes
// nothing: no topic, no record, no position. Only check shows what it finds all the
// same; topics that are missing are such a finding.
func TestEveryCommandRefuses(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.start()
	reader := i.reader()
	consent := i.consent("c-1")
	i.until(reader, changeID(consent))
	since := consent.LastUpdated.UTC().Add(-time.Second).Format(time.RFC3339)
	login := strings.Replace(i.env["MONGO_URL"], "mongodb://", "mongodb://nobody:wrong@", 1)
	wrongHistory := []string{"RESOURCE_HISTORY_MONGO_URL", login}
	wrongMongoDB := []string{"MONGO_URL", login, "RESOURCE_HISTORY_MONGO_URL", login, "AUDIT_EVENT_MONGO_URL", login, "ACCESS_LOGS_CLUSTER_MONGO_URL", login}
	wrongKafka := []string{"FHIR_CDC_KAFKA_SASL_ENABLED", "true", "FHIR_CDC_KAFKA_SASL_MECHANISM", "plain", "FHIR_CDC_KAFKA_SASL_USERNAME", "nobody", "FHIR_CDC_KAFKA_SASL_PASSWORD", "wrong"}
	nowhere := []string{"FHIR_CDC_TOPICS_CREATE", "", "KAFKA_RESOURCE_CHANGE_TOPIC", i.site.Name + ".nowhere", "FHIR_CDC_TOPICS_POSITIONS", i.site.Name + ".no-positions"}
	commands := map[string][]string{
		"position list": {"position", "list"}, "position show": {"position", "show", "main"}, "position history": {"position", "history", "main"},
		"position set": {"position", "set", "main", "--now", "--force"},
		"replay":       {"replay", "--from-time", since, "--same-topics"},
		"backfill":     {"backfill", "--resources", "Consent"},
		"verify":       {"verify", "--since", "1m"},
		"tail":         {"tail", "--no-follow"},
		"check":        {"check"},
	}
	type fault struct {
		name string
		env  []string
		args func(words []string) []string
		says string
		code int // 0: that of wrong usage
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
	mongoDB := []string{"position list", "position show", "position set", "replay", "backfill", "verify", "check"}
	kafka := []string{"position list", "position show", "position history", "position set", "replay", "backfill", "verify", "tail"}
	add(fault{name: "wrong MongoDB login", env: wrongMongoDB, args: as, says: "MongoDB"}, mongoDB...)
	add(fault{name: "wrong history login", env: wrongHistory, args: as, says: "history"}, "replay", "backfill", "verify", "check")
	add(fault{name: "wrong MongoDB login, new topics", env: wrongMongoDB, args: with("--topic-prefix", i.site.Name+".new."), says: "MongoDB user"}, "backfill")
	add(fault{name: "wrong history login, new topics", env: wrongHistory, args: with("--topic-prefix", i.site.Name+".new."), says: "history"}, "backfill")
	add(fault{name: "wrong Kafka login", env: wrongKafka, args: as, says: "SASL"}, kafka...)
	add(fault{name: "wrong Kafka login", env: wrongKafka, args: as, says: "Kafka could not be looked at"}, "check")
	add(fault{name: "missing topics", env: nowhere, args: as, says: i.site.Name + ".no"}, kafka...)
	add(fault{name: "missing topics", env: nowhere, args: as, says: "2 errors", code: exitFailure}, "check")
	add(fault{name: "missing topics of the prefix", env: []string{"FHIR_CDC_TOPICS_CREATE", ""}, args: with("--topic-prefix", "nowhere."), says: "nowhere."}, "backfill")
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
	add(fault{name: "nonsense output", args: with("--output", "xml"), says: "neither table nor json"}, slices.Collect(maps.Keys(commands))...)
	instead := func(words ...string) func([]string) []string { return func([]string) []string { return words } }
	add(fault{name: "missing topics of the prefix", env: []string{"FHIR_CDC_TOPICS_CREATE", ""}, args: instead("replay", "--from-time", since, "--topic-prefix", "nowhere."), says: "nowhere."}, "replay")
	add(fault{name: "wrong MongoDB login, new topics", env: wrongMongoDB, args: instead("replay", "--from-time", since, "--topic-prefix", i.site.Name+".new."), says: "MongoDB user"}, "replay")
	add(fault{name: "wrong history login, new topics", env: wrongHistory, args: instead("replay", "--from-time", since, "--topic-prefix", i.site.Name+".new."), says: "history"}, "replay")
	add(fault{name: "end before the beginning", args: with("--to-time", "2m"), says: "ends before"}, "replay")
	add(fault{name: "end before the beginning", args: with("--until", "2m"), says: "is not after"}, "verify")
	add(fault{name: "nonsense token", args: instead("replay", "--from-token", "xyz", "--same-topics"), says: "no resume token"}, "replay")
	idle := func(at string) string { return "82" + at + "000000012B0229296E04" }
	whole := i.position().Position.Token
	add(fault{name: "token cut short", args: instead("replay", "--from-token", whole[:24], "--same-topics"), says: "cut short"}, "replay")
	add(fault{name: "end token cut short", args: with("--to-token", whole[:len(whole)-2]), says: "cut short"}, "replay")
	add(fault{name: "token cut short", args: instead("position", "set", "main", "--from-token", whole[:len(whole)-2], "--force"), says: "cut short"}, "position set")
	add(fault{name: "token of the future", args: instead("position", "set", "main", "--from-token", idle("FFFFFFFF"), "--force"), says: "lies ahead of the cluster"}, "position set")
	soon := fmt.Sprintf("%08X", time.Now().Add(4*testTimeout).Unix())
	add(fault{name: "token of the near future", args: instead("position", "set", "main", "--from-token", idle(soon), "--force"), says: "lies ahead of the cluster"}, "position set")
	add(fault{name: "end in the future", args: with("--to-token", idle(soon)), says: "future"}, "replay")
	add(fault{name: "token of the future", args: instead("replay", "--from-token", idle(soon), "--same-topics"), says: "ends before"}, "replay")
	add(fault{name: "nowhere to", args: instead("replay", "--from-time", since), says: "say where to"}, "replay")
	add(fault{name: "no place for intermediate results", args: with("--temp-dir", "/nonexistent"), says: "--temp-dir takes no files"}, "verify")
	add(fault{name: "repair of a prefix", args: with("--topic-prefix", "again.", "--repair"), says: "live topics only"}, "verify")
	add(fault{name: "missing topics of the prefix", args: with("--topic-prefix", "nowhere."), says: "nowhere."}, "verify", "tail")
	add(fault{name: "no beginning", args: instead("verify"), says: "--since"}, "verify")
	add(fault{name: "empty prefix", args: with("--topic-prefix", ""), says: "--topic-prefix is given but empty"}, "backfill")
	add(fault{name: "empty prefix", args: instead("replay", "--from-time", since, "--topic-prefix", ""), says: "--topic-prefix is given but empty"}, "replay")
	add(fault{name: "empty kinds", args: with("--kinds", ""), says: "--kinds is given but empty"}, "replay", "backfill", "verify", "tail")
	add(fault{name: "empty stream", args: with("--stream="), says: "--stream is given but empty"}, "replay", "verify")
	add(fault{name: "empty resources", args: with("--resources", ""), says: "--resources is given but empty"}, "replay")
	add(fault{name: "empty resources", args: instead("backfill", "--resources", ""), says: "--resources is given but empty"}, "backfill")
	add(fault{name: "ids of nothing", args: with("--ids", ","), says: "--ids is given but empty"}, "replay")
	add(fault{name: "an empty id", args: with("--ids", "c-1,"), says: "one of the values is empty"}, "replay")
	add(fault{name: "empty configuration", args: with("--config", ""), says: "--config is given but empty"}, slices.Collect(maps.Keys(commands))...)
	add(fault{name: "unknown flag", args: with("--nonsense"), says: "--nonsense"}, slices.Collect(maps.Keys(commands))...)

	before := i.position().Position
	admin := harness.Admin(t, i.site.Brokers)
	topics, err := admin.ListTopics(i.ctx)
	i.check(err)
	audited := i.end(admin, i.site.Topics.Audit)
	for name, words := range commands {
		for _, f := range faults[name] {
			t.Run(name+", "+f.name, func(t *testing.T) {
				i := i.of(t).with(f.env...)
				stdout, stderr, code := i.command(f.args(words)...)
				lines := strings.Split(strings.TrimSpace(stderr), "\n")
				if last := len(lines) - 1; strings.HasPrefix(lines[last], "Run 'fhir-cdc") {
					lines = lines[:last]
				}
				want := cmp.Or(f.code, exitUsage)
				if code != want || (stdout != "" && name != "check") || !strings.Contains(stderr, f.says) {
					t.Errorf("exit code %d, want %d and %q:\n%s%s", code, want, f.says, stdout, stderr)
				}
				// Missing topics take a line each.
				if len(lines) != 1 && !strings.HasPrefix(f.name, "missing topics") {
					t.Errorf("%d lines:\n%s", len(lines), stderr)
				}
				if now := i.end(admin, i.site.Topics.Audit); now != audited {
					t.Errorf("the audit topic ended at offset %d and ends at %d", audited, now)
					audited = now
				}
			})
		}
	}
	now, err := admin.ListTopics(i.ctx)
	i.check(err)
	of := func(name string) bool { return !strings.HasPrefix(name, i.site.Name) }
	if diff := gocmp.Diff(slices.DeleteFunc(topics.Names(), of), slices.DeleteFunc(now.Names(), of)); diff != "" {
		t.Errorf("topics (-before +after):\n%s", diff)
	}
	if after := i.position().Position; before == nil || after == nil || after.ClusterTime.T < before.ClusterTime.T {
		t.Errorf("the position was %+v and is %+v", before, after)
	}
	i.exactly(reader, changeID(consent), changeID(i.consent("the daemon goes on")))
}

// end is the sum of the end offsets of a topic's partitions.
func (i *installation) end(admin *kadm.Client, topic string) (sum int64) {
	i.t.Helper()
	ends, err := admin.ListEndOffsets(i.ctx, topic)
	i.check(err)
	i.check(ends.Error())
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum
}
