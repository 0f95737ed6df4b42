package e2e_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const exitFailure = 1

type finding struct{ Level, Subject, Found, Advice string }

type checked struct {
	Findings []finding
	Samples  []struct{ Kind, Topic, Key, Value string }
}

// about finds what was said of a subject.
func (c checked) about(t *testing.T, subject string) finding {
	t.Helper()
	i := slices.IndexFunc(c.Findings, func(f finding) bool { return f.Subject == subject })
	if i < 0 {
		t.Errorf("nothing is said of %q in %+v", subject, c.Findings)
		return finding{}
	}
	return c.Findings[i]
}

func (c checked) worse(level string) (all []finding) {
	for _, f := range c.Findings {
		if f.Level == level {
			all = append(all, f)
		}
	}
	return all
}

// checks runs fhir-cdc check, which must end with a code.
func (i *installation) checks(code int, args ...string) checked {
	i.t.Helper()
	d, got := i.run(harness.Options{Command: []string{"check", "--output", "json"}, Args: args})
	if got != code {
		i.t.Errorf("exit code %d, want %d\n%s", got, code, d.Logs())
	}
	var c checked
	if err := json.Unmarshal([]byte(d.Stdout()), &c); err != nil {
		i.t.Fatalf("%v in %q; %s", err, d.Stdout(), d.Logs())
	}
	return c
}

// TestCheck: beside a running daemon that is well, all is well; the newest documents
// become their events; nothing is written, and no contents are shown.
func TestCheck(t *testing.T) {
	i := install(t, fhirserver.Options{}).withEveryKind().with("FHIR_CDC_MONGODB_OPLOG_MIN_WINDOW", "0s")
	i.check(i.fhir.CreateIndexes(i.ctx))
	i.start()
	reader := i.reader()
	ids := i.everyKind(2)
	i.until(reader, ids...)
	before, err := reader.End(i.ctx)
	i.check(err)

	got := i.checks(0)
	if wrong := got.worse("error"); len(wrong) > 0 {
		t.Errorf("errors: %+v", wrong)
	}
	for _, kind := range []string{"change", "export", "accessed_everything", "resource_change", "person_link"} {
		f := got.about(t, "sample event "+kind)
		if f.Level != "ok" && !strings.Contains(f.Found, "status") {
			t.Errorf("%+v", f)
		}
		if id, _, _ := strings.Cut(f.Found, ","); f.Level == "ok" && !slices.Contains(ids, id) {
			t.Errorf("the sample of kind %s has an id that the stream did not give: %+v", kind, f)
		}
	}
	for _, subject := range []string{
		"stream main: open", "stream main: oplog window", "stream main: slices ($toHashedIndexKey)", "MongoDB main, history, audit events, access logs: server",
		"MongoDB history: read " + i.site.Databases.History, "Kafka", "Kafka: clock", "transactions", "rights on topics", "rights on group " + i.site.Name,
	} {
		if f := got.about(t, subject); f.Level != "ok" {
			t.Errorf("%+v", f)
		}
	}
	// One broker has one replica of each topic: warnings, which --strict takes for errors.
	if f := got.about(t, "topic "+i.site.Topics.Change); f.Level != "warning" || !strings.Contains(f.Found, "3 partitions") {
		t.Errorf("%+v", f)
	}
	i.checks(exitFailure, "--strict")
	if len(got.Samples) > 0 || strings.Contains(jsonText(t, got), "resourceType") {
		t.Error("contents show without --show-sample")
	}
	if shown := i.checks(0, "--show-sample"); len(shown.Samples) < 2 || !strings.Contains(shown.Samples[0].Value, "resourceType") {
		t.Errorf("samples: %+v", shown.Samples)
	}
	// For people each event stands under its line.
	lines := strings.Split(i.succeeds("check", "--show-sample"), "\n")
	samples := 0
	for n, line := range lines {
		if !strings.Contains(line, "sample event ") || !strings.Contains(line, ", to topic ") {
			continue
		}
		if samples++; !strings.HasPrefix(lines[n+1], "        key ") || !strings.HasPrefix(lines[n+2], "        {") {
			t.Errorf("after %q there is %q", line, lines[n+1:n+3])
		}
	}
	if samples < 2 {
		t.Errorf("%d sample events are shown", samples)
	}
	after, err := reader.End(i.ctx)
	i.check(err)
	if len(after) != len(before) {
		t.Errorf("%d records before, %d after", len(before), len(after))
	}
	// The daemon still has its stream.
	later := i.consent("after")
	i.exactly(reader, append(harness.EventIDs(before), changeID(later), compactID(later))...)
}

// TestCheckForPeople: a line for each finding, and a summary.
func TestCheckForPeople(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_TOPICS_CREATE", "")
	stdout, stderr, code := i.command("check")
	if code != exitFailure || !strings.HasPrefix(stderr, "fhir-cdc: ") || !strings.Contains(stderr, "6 errors") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	for _, topic := range i.site.Topics.All() {
		if !strings.Contains(stdout, "error   topic "+topic+": missing; create it") {
			t.Errorf("topic %s is not named:\n%s", topic, stdout)
		}
	}
	if strings.Contains(stdout, "\x1b") {
		t.Error("there are colours in a file")
	}
	// Whichever command lacks the audit topic says how the daemon would make it.
	for _, words := range [][]string{{"audit"}, {"dead-letters", "list"}, {"verify", "--since", "1h"}} {
		i.refused([]string{i.site.Topics.Audit + " (1 partition, retention.ms=-1)"}, words...)
	}
}

// TestCheckUnreachable: servers that do not answer take one line each, and a time
// that is bounded. What could not be looked at is not the same as what was found.
func TestCheckUnreachable(t *testing.T) {
	i := install(t, fhirserver.Options{})
	dead := "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500"
	i.with("MONGO_URL", dead, "RESOURCE_HISTORY_MONGO_URL", "", "KAFKA_URLS", "127.0.0.1:1")
	got := i.checks(exitUsage)
	if wrong := got.worse("error"); len(wrong) != 2 || !strings.HasPrefix(wrong[0].Subject, "MongoDB main") || wrong[1].Subject != "Kafka" {
		t.Errorf("errors: %+v", wrong)
	}
	// What lies elsewhere is checked.
	if f := got.about(t, "stream access-logs: open"); f.Level != "ok" {
		t.Errorf("%+v", f)
	}
}

// TestCheckPositionTopic: a position topic that forgets is an error.
func TestCheckPositionTopic(t *testing.T) {
	i := install(t, fhirserver.Options{})
	_, err := harness.Admin(t, i.site.Brokers).CreateTopic(i.ctx, 1, 1, nil, i.site.Topics.Positions)
	i.check(err)
	got := i.checks(exitFailure)
	if wrong := got.worse("error"); len(wrong) != 1 || !strings.Contains(wrong[0].Advice, "cleanup.policy=compact") {
		t.Errorf("errors: %+v", wrong)
	}
	if f := got.about(t, "topic "+i.site.Topics.Change); f.Level != "ok" || !strings.Contains(f.Found, "topics.create") {
		t.Errorf("%+v", f)
	}
}

// TestSmallTopics: a topic that does not take what goes to it is named with its value and
// what is needed, by check and by the start.
func TestSmallTopics(t *testing.T) {
	i := install(t, fhirserver.Options{})
	admin := harness.Admin(t, i.site.Brokers)
	i.check(i.site.CreateTopics(i.ctx, admin, 1))
	small := "900"
	own := []string{i.site.Topics.Positions, i.site.Topics.DeadLetters, i.site.Topics.Audit}
	for _, topic := range own {
		responses, err := admin.AlterTopicConfigs(i.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &small}}, topic)
		i.check(err)
		i.check(responses[0].Err)
	}
	got := i.checks(exitFailure)
	d, code := i.run(harness.Options{})
	if code != exitUsage {
		t.Errorf("the start: exit code %d, want %d", code, exitUsage)
	}
	for _, topic := range own {
		if !slices.ContainsFunc(got.Findings, func(f finding) bool {
			return f.Level == "error" && f.Subject == "topic "+topic && strings.Contains(f.Found, "max.message.bytes=900") && strings.Contains(f.Advice, "set max.message.bytes=")
		}) {
			t.Errorf("check does not name topic %s: %+v", topic, got.Findings)
		}
		if !strings.Contains(d.Logs(), "topic "+topic+" has max.message.bytes=900") {
			t.Errorf("the start does not name topic %s: %s", topic, d.Logs())
		}
	}
}

// TestCheckWarns: what would go wrong some day is told with what to do.
func TestCheckWarns(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_EVENTS_CHANGE_DELETES", "true", "FHIR_CDC_MONGODB_OPLOG_MIN_WINDOW", "5000h", "KAFKA_ENABLED_RESOURCES", "Consent,Patinet")
	i.consent("c-1")
	admin := harness.Admin(t, i.site.Brokers)
	i.check(i.site.CreateTopics(i.ctx, admin, 1))
	set := func(topic, name, value string) {
		responses, err := admin.AlterTopicConfigs(i.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
		i.check(err)
		i.check(responses[0].Err)
	}
	set(i.site.Topics.Change, "min.insync.replicas", "2")
	set(i.site.Topics.Export, "cleanup.policy", "compact")
	got := i.checks(exitFailure)
	for subject, want := range map[string]finding{
		"resource type Patinet":     {Level: "warning", Advice: "did you mean Patient?"},
		"MongoDB main: Patinet":     {Level: "warning", Advice: "see that the name is right"},
		"stream main: oplog window": {Level: "warning", Advice: "make the oplog larger"},
		"MongoDB main: pre-images of " + i.site.Databases.Main + ".Consent_4_0_0":            {Level: "warning", Advice: "changeStreamPreAndPostImages"},
		"topic " + i.site.Topics.Change:                                                      {Level: "error", Advice: "lower min.insync.replicas"},
		"MongoDB history: indexes of " + i.site.Databases.History + ".Consent_4_0_0_History": {Level: "warning", Advice: "createIndexes"},
	} {
		if f := got.about(t, subject); f.Level != want.Level || !strings.Contains(f.Advice, want.Advice) {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
	// Of a topic several things can be worth a warning.
	if !slices.ContainsFunc(got.Findings, func(f finding) bool {
		return f.Level == "warning" && f.Subject == "topic "+i.site.Topics.Export && strings.Contains(f.Advice, "set cleanup.policy=delete")
	}) {
		t.Errorf("nothing is said of a compacted topic of events: %+v", got.Findings)
	}
}

// Without the history on the same cluster only pre-images tell of deletes of patients' data. The
// histories that other kinds look into need their indexes beside data changes too.
func TestCheckOfDataChanges(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.site = i.site.WithDataChanges("2s")
	maps.Copy(i.env, i.site.ServerEnv())
	i.consent("c-1")
	images, index := "MongoDB main: pre-images of "+i.site.Databases.Main+".Consent_4_0_0", "MongoDB history: indexes of "+i.site.Databases.History+".Consent_4_0_0_History"
	got := i.checks(0)
	if f := got.about(t, index); f.Level != "warning" {
		t.Errorf("%+v", f)
	}
	if slices.ContainsFunc(got.Findings, func(f finding) bool { return f.Subject == images }) {
		t.Errorf("pre-images are asked for where the history tells of deletes: %+v", got.Findings)
	}
	elsewhere := strings.Replace(i.site.MongoURI, "127.0.0.1", "localhost", 1)
	if f := i.with("RESOURCE_HISTORY_MONGO_URL", elsewhere).checks(0).about(t, images); f.Level != "warning" || !strings.Contains(f.Advice, "have the history") {
		t.Errorf("%+v", f)
	}
}

// TestCheckRights: what a user may not do is named, database by database.
func TestCheckRights(t *testing.T) {
	i := install(t, fhirserver.Options{})
	server := services.MongoDBForTest(t, services.MongoDBOptions{Auth: true})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI))
	i.check(err)
	t.Cleanup(func() { i.check(client.Disconnect(context.WithoutCancel(i.ctx))) })
	i.check(client.Database("admin").RunCommand(i.ctx, bson.D{
		{Key: "createUser", Value: "narrow"},
		{Key: "pwd", Value: "narrow"},
		{Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "read"}, {Key: "db", Value: i.site.Databases.Main}}}},
	}).Err())
	uri, err := url.Parse(server.URI)
	i.check(err)
	as := func(user string) *installation {
		uri.User = url.UserPassword(user, user)
		return i.with("MONGO_URL", uri.String(), "RESOURCE_HISTORY_MONGO_URL", uri.String(), "AUDIT_EVENT_MONGO_URL", uri.String(), "ACCESS_LOGS_CLUSTER_MONGO_URL", uri.String())
	}
	got := as("narrow").checks(exitFailure)
	if f := got.about(t, "MongoDB main: read "+i.site.Databases.Main); f.Level != "ok" {
		t.Errorf("%+v", f)
	}
	for _, subject := range []string{"MongoDB history: read " + i.site.Databases.History, "MongoDB audit events: read " + i.site.Databases.AuditEvents, "stream main: open"} {
		if f := got.about(t, subject); f.Level != "error" || f.Advice == "" {
			t.Errorf("%+v", f)
		}
	}
	wrong := as("nobody").checks(exitUsage).worse("error")
	if len(wrong) != 1 || !strings.Contains(wrong[0].Found, "user name") || strings.Contains(jsonText(t, wrong), "nobody:") {
		t.Errorf("wrong credentials: %+v", wrong)
	}
	admin := harness.Admin(t, i.site.Brokers)
	i.check(i.site.CreateTopics(i.ctx, admin, 1))
	i.eventually("the broker knows its new topics", func() bool {
		topics, err := admin.ListTopics(i.ctx, i.site.Topics.All()...)
		return err == nil && topics.Error() == nil
	})
	i.refused([]string{"user name"}, "position", "set", "main", "--now")
	i.refused([]string{"user name"}, "position", "list")
}

// TestCheckStandalone: a server without an oplog is an error that says what to do.
func TestCheckStandalone(t *testing.T) {
	i := install(t, fhirserver.Options{})
	server := services.MongoDBForTest(t, services.MongoDBOptions{Standalone: true})
	for _, name := range []string{"MONGO_URL", "RESOURCE_HISTORY_MONGO_URL", "AUDIT_EVENT_MONGO_URL", "ACCESS_LOGS_CLUSTER_MONGO_URL"} {
		i.with(name, server.URI)
	}
	got := i.checks(exitFailure)
	if f := got.about(t, "MongoDB main, history, audit events, access logs: server"); f.Level != "error" || !strings.Contains(f.Advice, "--replSet") {
		t.Errorf("%+v", f)
	}
}
