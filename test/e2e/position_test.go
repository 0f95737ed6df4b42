package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// shownPosition is what fhir-cdc position list --output json says of a stream.
type shownPosition struct {
	Stream, Store string
	Position      *struct {
		Token       string
		ClusterTime struct {
			T    int64
			Time string
		}
	}
	Saved            string
	PipelineChanged  bool
	LagSeconds       *float64
	OplogLeftSeconds *float64
	Running          bool
	Carrier          string
	Owner            *struct{ Instance, Since, Seen, Stopped string }
}

// command runs one command of the binary to its end.
func (i *installation) command(words ...string) (stdout, stderr string, code int) {
	i.t.Helper()
	d, code := i.run(harness.Options{Command: words})
	return d.Stdout(), d.Logs(), code
}

// shows runs a command that must end well, and decodes its JSON.
func (i *installation) shows(into any, words ...string) {
	i.t.Helper()
	stdout, stderr, code := i.command(append(words, "--output", "json")...)
	if code != 0 || stderr != "" {
		i.t.Fatalf("%v: exit code %d, %s", words, code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), into); err != nil {
		i.t.Fatalf("%v: %v in %s", words, err, stdout)
	}
}

// refused runs a command that must end with one clear line and exit code 2.
func (i *installation) refused(want []string, words ...string) {
	i.t.Helper()
	stdout, stderr, code := i.command(words...)
	if code != exitUsage || stdout != "" {
		i.t.Errorf("%v: exit code %d, want %d; stdout %q", words, code, exitUsage, stdout)
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if !strings.HasPrefix(lines[0], "fhir-cdc: ") || len(lines) > 2 || (len(lines) == 2 && !strings.HasPrefix(lines[1], "Run 'fhir-cdc ")) {
		i.t.Errorf("%v: not one line:\n%s", words, stderr)
	}
	for _, w := range want {
		if !strings.Contains(lines[0], w) {
			i.t.Errorf("%v: %q lacks %q", words, lines[0], w)
		}
	}
}

func (i *installation) position() shownPosition {
	i.t.Helper()
	var list []shownPosition
	i.shows(&list, "position", "list")
	if len(list) != 1 {
		i.t.Fatalf("%d streams, want 1", len(list))
	}
	return list[0]
}

// TestPosition: looked at while the stream runs and when it has stopped, set back
// and forth, taken from a running daemon; in each store.
func TestPosition(t *testing.T) {
	for store, settings := range map[string][]string{
		"kafka":         nil,
		"kafka, alone":  {"FHIR_CDC_REPLICAS", "none"},
		"mongodb":       {"FHIR_CDC_CHECKPOINT_STORE", "mongodb", "FHIR_CDC_DELIVERY", "at_least_once"},
		"file":          {"FHIR_CDC_CHECKPOINT_STORE", "file", "FHIR_CDC_DELIVERY", "at_least_once"},
		"at least once": {"FHIR_CDC_DELIVERY", "at_least_once"},
	} {
		t.Run(store, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with(settings...).with("FHIR_CDC_CHECKPOINT_INTERVAL", "10ms")
			switch store {
			case "file":
				i.with("FHIR_CDC_CHECKPOINT_FILE_PATH", filepath.Join(t.TempDir(), "positions.json"))
			case "mongodb":
				i.with("FHIR_CDC_CHECKPOINT_MONGODB_DATABASE", i.site.Databases.History)
			}
			testPosition(t, i)
		})
	}
}

func testPosition(t *testing.T, i *installation) {
	d := i.start("--start", "oldest")
	reader := i.reader()
	first := i.consent("first")
	i.until(reader, changeID(first))
	i.eventually("the position of the first event is stored", func() bool { return i.position().Position != nil })
	running := i.position()
	if !running.Running || running.Carrier == "" || running.Stream != "main" || running.PipelineChanged {
		t.Errorf("while it runs: %+v", running)
	}
	if running.LagSeconds == nil || *running.LagSeconds > 3600 || running.OplogLeftSeconds == nil {
		t.Errorf("lag and oplog: %v, %v", running.LagSeconds, running.OplogLeftSeconds)
	}
	i.refused([]string{"stream main is carried by ", running.Carrier, "stop it"}, "position", "set", "main", "--now")
	i.stop(d)
	stopped := i.position()
	if stopped.Running || stopped.Carrier != "" || stopped.Owner == nil {
		t.Errorf("after it has stopped: %+v", stopped)
	}

	// Back before the first event: it comes again. Nothing in between is skipped.
	var set struct {
		Before, After struct{ Token, Changed string }
		Direction     string
		DryRun        bool
	}
	i.shows(&set, "position", "set", "main", "--from-time", first.LastUpdated.UTC().Add(-time.Second).Format(time.RFC3339), "--dry-run")
	if got := i.position(); got.Position.Token != stopped.Position.Token || !set.DryRun || set.Direction != "backwards" {
		t.Errorf("a dry run: %+v, the position is %+v", set, got)
	}
	i.shows(&set, "position", "set", "main", "--from-time", first.LastUpdated.UTC().Add(-time.Second).Format(time.RFC3339))
	if set.After.Changed == "" {
		t.Error("the position is not dated: a repair after it would not know where the stream had begun")
	}
	if got := i.position(); got.Position.Token != set.After.Token || set.Before.Token != stopped.Position.Token || got.Running {
		t.Errorf("set back: %+v, the position is %+v", set, got)
	}
	d = i.start()
	second := i.consent("second")
	i.exactly(reader, changeID(first), changeID(first), changeID(second))

	// While nobody carries it, forwards: the third is left out; then back to a token.
	i.stop(d)
	third := i.consent("third")
	before := i.position().Position.Token
	i.shows(&set, "position", "set", "main", "--now")
	if set.Direction != "forwards" {
		t.Errorf("set to now: %+v", set)
	}
	d = i.start()
	fourth := i.consent("fourth")
	ids := []string{changeID(first), changeID(first), changeID(second), changeID(fourth)}
	i.exactly(reader, ids...)
	i.stop(d)
	i.shows(&set, "position", "set", "main", "--from-token", before)
	if set.After.Token != before || set.Direction != "backwards" {
		t.Errorf("set to a token: %+v", set)
	}
	d = i.start()
	_, err := reader.Until(i.ctx, func(records []harness.Record) bool { return count(harness.EventIDs(records))[changeID(fourth)] == 2 })
	i.check(err)
	i.stop(d)
	ids = append(ids, changeID(third), changeID(fourth))
	i.exactly(reader, ids...)

	var history []struct{ Token string }
	i.shows(&history, "position", "history", "main")
	if len(history) == 0 || len(history) > 3 {
		t.Errorf("%d hours are kept", len(history))
	}
	if n := len(i.audited("position_set")); n != 3 {
		t.Errorf("%d records in the audit topic, want one for each of 3 changes", n)
	}
}

// audited are the records of an action in the audit topic.
func (i *installation) audited(action string) []map[string]any {
	i.t.Helper()
	records, err := harness.NewReader(i.t, i.site.Brokers, i.site.Topics.Audit).End(i.ctx)
	i.check(err)
	var found []map[string]any
	for _, r := range records {
		body, err := r.JSON()
		i.check(err)
		if body["action"] == action {
			found = append(found, body)
		}
	}
	return found
}

// TestPositionForce: a stream is taken from the daemon that carries it. With replicas
// it goes on at the new position by itself; without, the daemon ends.
func TestPositionForce(t *testing.T) {
	for name, settings := range map[string][]string{
		"replicas": {"FHIR_CDC_SESSION_TIMEOUT", "6s"},
		"alone":    {"FHIR_CDC_REPLICAS", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with(settings...)
			d := i.start()
			reader := i.reader()
			first := i.consent("first")
			i.until(reader, changeID(first))
			var set struct{ TakenFrom string }
			i.shows(&set, "position", "set", "main", "--from-time", first.LastUpdated.UTC().Add(-time.Second).Format(time.RFC3339), "--force")
			if set.TakenFrom == "" {
				t.Error("the owner is not named")
			}
			if audited := i.audited("position_set"); len(audited) != 1 || audited[0]["stream"] != "main" || !strings.Contains(jsonText(t, audited[0]), set.TakenFrom) {
				t.Errorf("in the audit topic: %v", audited)
			}
			second := i.consent("second")
			if name == "alone" {
				if code := i.wait(d); code != exitFenced {
					t.Errorf("the daemon ended with code %d, want %d", code, exitFenced)
				}
				i.start()
			}
			i.exactly(reader, changeID(first), changeID(first), changeID(second))
		})
	}
}

// TestPositionFileInUse: a position file cannot be taken from a process.
func TestPositionFileInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "positions.json")
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_DELIVERY", "at_least_once", "FHIR_CDC_CHECKPOINT_STORE", "file", "FHIR_CDC_CHECKPOINT_FILE_PATH", path)
	i.start()
	before, err := os.ReadFile(path)
	i.check(err)
	i.refused([]string{"cannot be taken away"}, "position", "set", "main", "--now", "--force")
	after, err := os.ReadFile(path)
	i.check(err)
	if string(before) != string(after) {
		t.Errorf("the file has changed:\n%s\n%s", before, after)
	}
}

// TestPositionRefusals: one clear line, exit code 2, and nothing changed.
func TestPositionRefusals(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.stop(i.start())
	before := i.position()
	for _, test := range []struct {
		words []string
		want  []string
	}{
		{[]string{"show", "nobody"}, []string{`unknown stream "nobody"`, "main"}},
		{[]string{"history", "nobody"}, []string{`unknown stream "nobody"`}},
		{[]string{"set", "nobody", "--now"}, []string{`unknown stream "nobody"`}},
		{[]string{"set", "main"}, []string{"--from-time", "--from-cluster-time", "--from-token", "--now"}},
		{[]string{"set", "main", "--now", "--from-time", "1h"}, []string{"one of"}},
		{[]string{"set", "main", "--from-time", "soon"}, []string{"it is no time"}},
		{[]string{"set", "main", "--from-cluster-time", "1795524720"}, []string{"it is no cluster time"}},
		{[]string{"set", "main", "--from-cluster-time", "4000000000,1"}, []string{"in the future"}},
		{[]string{"set", "main", "--from-time", "2999-01-01"}, []string{"in the future"}},
		{[]string{"set", "main", "--from-token", "x"}, []string{"no resume token"}},
		{[]string{"set", "main", "--from-token", "82" + strings.Repeat("0", 30)}, []string{"token"}},
		{[]string{"list", "--output", "xml"}, []string{"neither table nor json"}},
	} {
		i.refused(test.want, append([]string{"position"}, test.words...)...)
	}
	env := i.env
	for _, test := range []struct {
		env  []string
		want []string
	}{
		{[]string{"MONGO_URL", strings.Replace(i.site.MongoURI, "mongodb://", "mongodb://nobody:wrong@", 1)}, []string{"user name"}},
		{[]string{"FHIR_CDC_TOPICS_AUDIT", i.site.Name + ".none"}, []string{"missing", i.site.Name + ".none"}},
		{[]string{"FHIR_CDC_TOPICS_POSITIONS", i.site.Name + ".none"}, []string{"missing", i.site.Name + ".none"}},
		{[]string{"FHIR_CDC_SINK", "stdout"}, []string{"keeps no positions"}},
		{[]string{"FHIR_CDC_KAFKA_SASL_ENABLED", "true", "FHIR_CDC_KAFKA_SASL_MECHANISM", "plain", "FHIR_CDC_KAFKA_SASL_USERNAME", "nobody", "FHIR_CDC_KAFKA_SASL_PASSWORD", "wrong"}, []string{"SASL"}},
	} {
		i.env = harness.With(env, test.env...)
		i.refused(test.want, "position", "set", "main", "--now")
	}
	i.env = env
	if diff := cmp.Diff(before.Position, i.position().Position); diff != "" {
		t.Errorf("something has changed:\n%s", diff)
	}
	if audited := i.audited("position_set"); len(audited) > 0 {
		t.Errorf("the audit topic says %v", audited)
	}
}

func jsonText(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
