package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

type tailed struct {
	Kind, ID, Topic, Key string
	Value                json.RawMessage
	LatencyMS            *int64 `json:"latencyMs"`
	StoredLatencyMS      *int64 `json:"storedLatencyMs"`
}

func tailedOf(t *testing.T, output string) (all []tailed) {
	t.Helper()
	for line := range strings.Lines(output) {
		var e tailed
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

// TestTail: what is there and what arrives, as a consumer gets it.
func TestTail(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.start()
	reader := i.reader()
	ids := i.everyKind(1)
	i.until(reader, ids...)
	records, err := reader.End(i.ctx)
	i.check(err)

	got := tailedOf(t, i.succeeds("tail", "--from-beginning", "--no-follow", "--output", "json"))
	want := map[string]string{}
	for _, r := range records {
		want[r.Topic+"/"+r.EventID()] = r.Key + string(r.Value)
	}
	shown := map[string]string{}
	for _, e := range got {
		shown[e.Topic+"/"+e.ID] = e.Key + string(e.Value)
		if e.StoredLatencyMS == nil || (e.LatencyMS != nil) != (e.Kind == "accessed_everything") {
			t.Errorf("latencies of a %s event: %v, %v", e.Kind, e.LatencyMS, e.StoredLatencyMS)
		}
	}
	if diff := cmp.Diff(want, shown); diff != "" || len(got) != len(records) {
		t.Errorf("%d of %d records (-want +got):\n%s", len(got), len(records), diff)
	}
	for kind, topic := range map[string]string{"export": i.site.Topics.Export, "dead_letter": i.site.Topics.DeadLetters} {
		got := tailedOf(t, i.succeeds("tail", "--from-beginning", "--no-follow", "--kinds", kind, "--output", "json"))
		if len(got) != len(harness.Of(records, topic)) || slices.ContainsFunc(got, func(e tailed) bool { return e.Kind != kind }) {
			t.Errorf("--kind %s shows %d of %d", kind, len(got), len(harness.Of(records, topic)))
		}
	}
	if got := tailedOf(t, i.succeeds("tail", "--since", "1h", "--limit", "3", "--output", "json")); len(got) != 3 {
		t.Errorf("--limit 3 shows %d", len(got))
	}
	people := i.succeeds("tail", "--from-beginning", "--no-follow", "--kind", "change", "--limit", "1")
	if !strings.Contains(people, "← change  "+i.site.Topics.Change) || !strings.Contains(people, `"resourceType": "AuditEvent"`) || strings.Contains(people, "\x1b") {
		t.Errorf("for people:\n%s", people)
	}

	if one, other := i.succeeds("tail", "--from-beginning", "--no-follow", "--kinds", "export"), i.succeeds("tail", "--from-beginning", "--no-follow", "--kind", "export"); one == "" || (one == "") != (other == "") {
		t.Errorf("--kind is not --kinds:\n%s\n%s", one, other)
	}

	if none := i.succeeds("tail", "--no-follow"); !strings.HasPrefix(none, "There are no events.") {
		t.Errorf("where there is nothing to show it says %q", none)
	}

	// It follows, until it is told to end. Each write comes after the last was looked
	// for, since when it has begun to read does not show.
	d := harness.Start(t, harness.Options{Env: i.env, Command: []string{"tail", "--kind", "change", "--output", "json"}})
	wrote := 0
	i.eventually("an event is shown as it arrives", func() bool {
		wrote++
		i.consent("followed-" + time.Now().Format("150405.000000000"))
		return d.Stdout() != ""
	})
	i.check(d.Signal(syscall.SIGINT))
	if code := i.wait(d); code != 0 {
		t.Errorf("exit code %d after SIGINT: %s", code, d.Logs())
	}
	if n := len(tailedOf(t, d.Stdout())); n == 0 || n > wrote {
		t.Errorf("%d events of %d writes are shown", n, wrote)
	}
}

// TestTailSeesNewPartitions: partitions that are added while it runs are shown too.
func TestTailSeesNewPartitions(t *testing.T) {
	i := install(t, fhirserver.Options{})
	admin := harness.Admin(t, i.site.Brokers)
	i.check(i.site.CreateTopics(i.ctx, admin, 1))
	client, err := kgo.NewClient(kgo.SeedBrokers(i.site.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond))
	i.check(err)
	t.Cleanup(client.Close)
	write := func(partition int32, id string) {
		value := []byte(`{"resourceType":"AuditEvent","id":"` + id + `"}`)
		i.check(client.ProduceSync(i.ctx, &kgo.Record{Topic: i.site.Topics.Change, Partition: partition, Value: value}).FirstErr())
	}
	d := harness.Start(t, harness.Options{Env: i.env, Command: []string{"tail", "--kinds", "change", "--output", "json"}})
	i.eventually("it follows", func() bool {
		write(0, "old")
		return strings.Contains(d.Stdout(), `"old"`)
	})
	responses, err := admin.CreatePartitions(i.ctx, 2, i.site.Topics.Change) // two more
	i.check(err)
	i.check(responses.Error())
	i.eventually("the new partitions are known", func() bool {
		client.ForceMetadataRefresh()
		topics, err := admin.ListTopics(i.ctx, i.site.Topics.Change)
		return err == nil && len(topics[i.site.Topics.Change].Partitions) == 3
	})
	for _, id := range []string{"new-1", "new-2"} {
		i.eventually("a record can be written", func() bool {
			value := []byte(`{"resourceType":"AuditEvent","id":"` + id + `"}`)
			return client.ProduceSync(i.ctx, &kgo.Record{Topic: i.site.Topics.Change, Partition: 2, Value: value}).FirstErr() == nil
		})
	}
	i.eventually("records of a new partition are shown", func() bool {
		return strings.Contains(d.Stdout(), `"new-1"`) && strings.Contains(d.Stdout(), `"new-2"`)
	})
	i.check(d.Signal(syscall.SIGINT))
	if code := i.wait(d); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestTailRefusals: one clear line, exit code 2.
func TestTailRefusals(t *testing.T) {
	i := install(t, fhirserver.Options{})
	i.refused([]string{"missing", i.site.Topics.Change}, "tail")
	i.refused([]string{"nonsense", "dead_letter"}, "tail", "--kind", "nonsense")
	i.refused([]string{"it is no time"}, "tail", "--since", "soon")
	i.refused([]string{"--from-beginning"}, "tail", "--since", "1h", "--from-beginning")
	i.with("FHIR_CDC_SINK", "stdout").refused([]string{"no topics"}, "tail")
	i.with("FHIR_CDC_SINK", "", "FHIR_CDC_KAFKA_SASL_ENABLED", "true", "FHIR_CDC_KAFKA_SASL_MECHANISM", "plain",
		"FHIR_CDC_KAFKA_SASL_USERNAME", "nobody", "FHIR_CDC_KAFKA_SASL_PASSWORD", "wrong").refused([]string{"SASL"}, "tail")
	i.refused([]string{"neither table nor json"}, "check", "--output", "xml")
	i.refused([]string{"oplog_min_window"}, "check", "--set", "mongodb.oplog_min_window=-1h")
}
