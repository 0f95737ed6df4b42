package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// succeeds runs a command of the daemon's binary that has to end well, and returns
// its output.
func (i *installation) succeeds(args ...string) string {
	i.t.Helper()
	d, code := i.run(harness.Options{Command: args})
	if code != 0 {
		i.t.Fatalf("%v: exit code %d\n%s%s", args, code, d.Stdout(), d.Logs())
	}
	return d.Stdout()
}

// everyKind writes changes of all kinds, and returns the ids of their events.
func (i *installation) everyKind(consents int) (ids []string) {
	i.t.Helper()
	compact := func(resources ...fhirserver.Resource) {
		for _, r := range resources {
			if i.site.Topics.ResourceChange != "" {
				ids = append(ids, compactID(r))
			}
		}
	}
	client, err := i.fhir.CreatePerson(i.ctx, "per-1")
	i.check(err)
	master, err := i.fhir.CreateMasterPerson(i.ctx, "master-1", client)
	i.check(err)
	compact(client, master)
	if i.site.Topics.PersonLink != "" {
		linked, err := i.fhir.Link(i.ctx, client, "pat-2")
		i.check(err)
		unlinked, err := i.fhir.Unlink(i.ctx, linked, "pat-1")
		i.check(err)
		put, err := i.fhir.Replace(i.ctx, unlinked, fhirserver.Set("active", true))
		i.check(err)
		created, err := i.fhir.CreateLinked(i.ctx, "per-2", "pat-3")
		i.check(err)
		compact(linked, unlinked, put, created)
		ids = append(ids, linkID(linked), linkID(unlinked), linkID(created))
	}
	written, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: "con", Keys: consents, Versions: 3, History: true})
	i.check(err)
	ids = append(ids, changeIDs(written...)...)
	compact(written...)
	for n := range 5 {
		job, err := i.fhir.CreateExportStatus(i.ctx, fmt.Sprintf("job-%d", n))
		i.check(err)
		ids = append(ids, changeID(job), exportID(job))
		compact(job)
		for _, status := range []string{"in-progress", "completed"} {
			job, err = i.fhir.SetStatus(i.ctx, job, status)
			i.check(err)
			ids = append(ids, changeID(job), exportID(job))
			compact(job)
		}
		request, err := i.fhir.Everything(i.ctx, client.UUID, 3, n%2 == 0)
		i.check(err)
		ids = append(ids, harness.AccessedEverythingID(request.SystemID))
	}
	// The specification knows no such status: a dead letter.
	bad, err := i.fhir.Create(i.ctx, "ExportStatus", "job-bad", fhirserver.BwellOwner, fhirserver.Set("status", "unheard-of")(i.fhir.ExportStatus()))
	i.check(err)
	compact(bad)
	return append(ids, changeID(bad))
}

// content is all of a record that a consumer goes by.
type content struct {
	Topic, Key, Value string
	Headers           harness.Headers
}

// byTopicAndKey are the records in the order of each key, the prefix taken from their
// topics.
func byTopicAndKey(records []harness.Record, prefix string) map[string][]content {
	all := map[string][]content{}
	for _, r := range records {
		topic := strings.TrimPrefix(r.Topic, prefix)
		all[topic+"/"+r.Key] = append(all[topic+"/"+r.Key], content{Topic: topic, Key: r.Key, Value: string(r.Value), Headers: r.Headers})
	}
	return all
}

func prefixed(prefix string, topics ...string) []string {
	all := make([]string, len(topics))
	for i, t := range topics {
		all[i] = prefix + t
	}
	return all
}

// A replay of all there is makes the live records again: the same ids, keys, values
// and headers in the same order, the same dead letters. Live topics and positions stay
// as they are.
func TestReplay(t *testing.T) {
	i := install(t, fhirserver.Options{}).withEveryKind().with("FHIR_CDC_FACTS_WAIT", slowMachine)
	began := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	ids := i.everyKind(300)
	reader := i.reader()
	i.until(reader, ids...)
	live, err := reader.End(i.ctx)
	i.check(err)

	counted := i.succeeds("replay", "--from-time", began, "--dry-run", "--output", "json")
	var dry struct {
		Counts []struct {
			Kind                string
			Events, DeadLetters int
		}
		First []struct{ ID, Key, Topic string }
	}
	i.check(json.Unmarshal([]byte(counted), &dry))
	events, dead := 0, 0
	for _, c := range dry.Counts {
		events, dead = events+c.Events, dead+c.DeadLetters
	}
	if events != len(ids) || dead != 1 || len(dry.First) != 10 || dry.First[0].ID != ids[0] {
		t.Errorf("the dry run counts %d events and %d dead letters of %d and 1:\n%s", events, dead, len(ids), counted)
	}

	// The daemon goes on meanwhile.
	const prefix = "again."
	i.succeeds("replay", "--from-time", began, "--topic-prefix", prefix)
	topics := prefixed(prefix, append(i.site.Topics.Events(), i.site.Topics.DeadLetters)...)
	again, err := harness.NewReader(t, i.site.Brokers, topics...).End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(byTopicAndKey(live, ""), byTopicAndKey(again, prefix)); diff != "" {
		t.Errorf("the replay differs from what was live (-live +replay):\n%s", diff)
	}
	if shown := tailedOf(t, i.succeeds("tail", "--topic-prefix", prefix, "--from-beginning", "--no-follow", "--output", "json")); len(shown) != len(again) {
		t.Errorf("tail --topic-prefix shows %d of %d records", len(shown), len(again))
	}
	if v := i.verify("--since", began, "--topic-prefix", prefix); !v.Clean || v.sum(func(n int) int { return v.Topics[n].Records }) != len(ids) || !strings.HasPrefix(v.Topics[0].Topic, prefix) {
		t.Errorf("verify --topic-prefix: %+v", v)
	}
	i.stop(d)
	after, err := reader.End(i.ctx)
	i.check(err)
	if len(after) != len(live) {
		t.Errorf("the live topics had %d records and have %d", len(live), len(after))
	}
}
