package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// retried is the JSON of fhir-cdc dead-letters retry.
type retried []struct{ Place, Key, Outcome, ID, Reason string }

// TestDeadLettersRetry: a dead letter whose cause is gone has its event by a command, with the
// id that it would have had, and once, however often the command is given.
func TestDeadLettersRetry(t *testing.T) {
	i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).with("FHIR_CDC_FACTS_REQUEST_ID", "false")
	d := i.start()
	reader := i.reader()
	ids := []string{changeID(i.consent("first"))}
	i.until(reader, ids...)
	i.stop(d)
	i.limited("400") // which the next daemon asks for when it starts
	d = i.start()
	second := changeID(i.consent("second"))
	ids = append(ids, "")
	i.until(reader, ids...)

	var letters []struct {
		Place, Key, Reason string
		Retried            bool
	}
	i.shows(&letters, "dead-letters", "list")
	if len(letters) != 1 || letters[0].Retried || letters[0].Key == "" || !strings.Contains(letters[0].Reason, "takes 400") {
		t.Fatalf("dead letters: %+v", letters)
	}
	place := letters[0].Place
	if shown := i.succeeds("dead-letters", "show", place); !strings.Contains(shown, letters[0].Reason) {
		t.Errorf("show says\n%s", shown)
	}
	i.refused([]string{"no dead letter at 7@7"}, "dead-letters", "show", "7@7")
	i.refused([]string{"--all"}, "dead-letters", "retry")

	// The cause is still there: nothing is published, and no second dead letter.
	if stdout, stderr, code := i.command("dead-letters", "retry", place); code != 1 || !strings.Contains(stdout, "still fails") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	i.exactly(reader, ids...)

	i.limited("100000")
	if stdout := i.succeeds("dead-letters", "retry", "--all", "--dry-run"); !strings.Contains(stdout, "would be published") || !strings.Contains(stdout, second) {
		t.Errorf("a dry run says\n%s", stdout)
	}
	i.exactly(reader, ids...)
	var done retried
	i.eventually("the broker takes the event", func() bool {
		stdout, _, code := i.command("dead-letters", "retry", "--all", "--output", "json")
		return code == 0 && json.Unmarshal([]byte(stdout), &done) == nil
	})
	if len(done) != 1 || done[0].ID != second || done[0].Outcome != "published" {
		t.Errorf("retried: %+v", done)
	}
	ids = append(ids, second)
	i.exactly(reader, ids...)

	// Once more: it is known, by name too.
	if stdout := i.succeeds("dead-letters", "retry", "--all"); !strings.Contains(stdout, "nothing to retry") {
		t.Errorf("a second retry says\n%s", stdout)
	}
	i.shows(&done, "dead-letters", "retry", place)
	if len(done) != 1 || done[0].Outcome != "published before" {
		t.Errorf("retried twice: %+v", done)
	}
	i.exactly(reader, ids...)
	i.shows(&letters, "dead-letters", "list")
	if len(letters) != 1 || !letters[0].Retried {
		t.Errorf("dead letters: %+v", letters)
	}
	var audit []struct {
		Action, Stream string
		Details        map[string]any
	}
	i.shows(&audit, "audit", "--stream", "main")
	if len(audit) == 0 || audit[len(audit)-1].Action != "dead_letters_retried" || audit[len(audit)-1].Stream != "main" {
		t.Errorf("the audit topic says %+v", audit)
	}
	// The daemon was not disturbed: it ends in order, and the next one has the new limit.
	i.stop(d)
	d = i.start()
	i.exactly(reader, append(ids, changeID(i.consent("third")))...)
	i.stop(d)
}

// limited sets the largest message of the topic of change events, and waits until the brokers
// tell of it.
func (i *installation) limited(bytes string) {
	i.t.Helper()
	i.maxMessageBytes(bytes)
	i.eventually("the topic's limit is "+bytes, func() bool {
		all, err := harness.Admin(i.t, i.site.Brokers).DescribeTopicConfigs(i.ctx, i.site.Topics.Change)
		i.check(err)
		return slices.ContainsFunc(all[0].Configs, func(c kadm.Config) bool { return c.Key == "max.message.bytes" && c.MaybeValue() == bytes })
	})
}

// TestControlCommands: what the status port shows and does is there as commands.
func TestControlCommands(t *testing.T) {
	i := install(t, fhirserver.Options{}).with(harness.EnvControlToken, harness.ControlToken)
	d := i.start()
	i.paused(d) // all run
	address := "http.address=" + strings.TrimPrefix(i.statusURL(d), "http://")
	var status struct {
		Ready   bool
		Streams []struct{ Stream, State string }
	}
	i.shows(&status, "status", "--set", address)
	if !status.Ready || len(status.Streams) == 0 || status.Streams[0].State != "running" {
		t.Errorf("status: %+v", status)
	}
	if stdout := i.succeeds("pause", "main", "--set", address); !strings.Contains(stdout, "Stream main pauses.") {
		t.Errorf("pause says %q", stdout)
	}
	i.paused(d, "main")
	if stdout := i.succeeds("status", "--set", address); !strings.Contains(stdout, "READY") || !strings.Contains(stdout, "paused") {
		t.Errorf("status says\n%s", stdout)
	}
	i.succeeds("resume", "main", "--set", address)
	i.paused(d)
	i.succeeds("log-level", "debug", "--set", address)
	i.shows(&struct{}{}, "status", "--set", address)
	if stdout, stderr, code := i.command("log-level", "loud", "--set", address); code != 1 || !strings.Contains(stderr, "is not one of") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	if stdout, stderr, code := i.command("pause", "other", "--set", address); code != 1 || !strings.Contains(stderr, "there is no stream") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	audit := i.succeeds("audit")
	for _, control := range []string{"pause", "resume", "log-level"} {
		if !strings.Contains(audit, "control="+control) {
			t.Errorf("%s is not in\n%s", control, audit)
		}
	}
	token := i.env[harness.EnvControlToken]
	i.with(harness.EnvControlToken, strings.ToUpper(token)+"x")
	if stdout, stderr, code := i.command("pause", "main", "--set", address); code != 1 || !strings.Contains(stderr, "token is missing or wrong") || strings.Contains(stdout+stderr, token) {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	i.with(harness.EnvControlToken, "").refused([]string{"http.token is not set"}, "resume", "main", "--set", address)
	i.stop(d)
	if stdout, stderr, code := i.command("status", "--set", address); code != 1 || !strings.Contains(stderr, "no daemon answers") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
}
