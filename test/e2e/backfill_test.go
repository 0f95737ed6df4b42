package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// backfilled is the JSON result of a backfill.
type backfilled struct {
	Done, Already, Resumed bool
	Scanned, Events        int
	DeadLetters            int
	Counts                 []struct{ Events int }
	First                  []struct {
		ID, Key, Topic string
		Changed        time.Time
	}
}

func (i *installation) backfill(args ...string) (result backfilled) {
	i.t.Helper()
	text := i.succeeds(append([]string{"backfill", "--output", "json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		i.t.Fatalf("%v: %v\n%s", args, err, text)
	}
	return result
}

// contents are the records by event id, with a prefix taken from their topics.
func contents(t *testing.T, records []harness.Record, prefix string) map[string]content {
	t.Helper()
	all := map[string]content{}
	for _, r := range records {
		id := r.EventID()
		if _, twice := all[id]; twice {
			t.Errorf("event %s is there twice", id)
		}
		all[id] = content{Topic: strings.TrimPrefix(r.Topic, prefix), Key: r.Key, Value: string(r.Value), Headers: r.Headers}
	}
	return all
}

// A backfill beside the live stream makes the live records again, byte for byte: of
// the collections the newest versions, of the history all.
func TestBackfill(t *testing.T) {
	i := install(t, fhirserver.Options{}).withEveryKind().with("FHIR_CDC_FACTS_WAIT", slowMachine)
	d := i.start()
	const consents, jobs, requests, persons, links = 300, 5, 5, 3, 1
	reader := i.reader()
	i.until(reader, i.everyKind(consents)...)
	all, err := reader.End(i.ctx)
	i.check(err)
	live := contents(t, slices.DeleteFunc(all, func(r harness.Record) bool { return r.Topic == i.site.Topics.DeadLetters }), "")

	// job-bad has a change event and a compact one, and its export event is a dead letter.
	current := 2*consents + 3*jobs + 2 + requests + persons + links
	// Of a person three versions were overwritten, of which two were links by hand.
	for from, want := range map[string]int{"collections": current, "history": current + 2*2*consents + 3 + 2} {
		dry := i.backfill("--from", from, "--dry-run")
		if dry.Events != want || dry.DeadLetters != 1 || len(dry.First) != 10 || live[dry.First[0].ID].Key != dry.First[0].Key || time.Since(dry.First[0].Changed).Abs() > time.Hour {
			t.Errorf("a dry run from %s counts %d events and %d dead letters of %d and 1; first %v", from, dry.Events, dry.DeadLetters, want, dry.First)
		}
		prefix := from + "."
		done := i.backfill("--from", from, "--topic-prefix", prefix)
		if !done.Done || done.Already || done.Resumed || done.Events != want || done.DeadLetters != 1 {
			t.Errorf("a backfill from %s has done %+v, want %d events", from, done, want)
		}
		records, err := harness.NewReader(t, i.site.Brokers, prefixed(prefix, i.site.Topics.Events()...)...).End(i.ctx)
		i.check(err)
		again := contents(t, records, prefix)
		if len(again) != want {
			t.Errorf("%d events from %s, want %d", len(again), from, want)
		}
		differ := 0
		for id, c := range again {
			if l := live[id]; l.Topic != c.Topic || l.Key != c.Key || l.Value != c.Value || !slices.Equal(l.Headers, c.Headers) {
				if differ++; differ < 3 {
					t.Errorf("from %s: event %s is %+v, live it was %+v", from, id, c, l)
				}
			}
		}
	}
	i.stop(d)
	after, err := reader.End(i.ctx)
	i.check(err)
	if len(after) != len(all) {
		t.Errorf("the live topics had %d records and have %d", len(all), len(after))
	}
}

// Whatever ends a backfill, the same command goes on where it was, and what it has
// published is there once.
func TestBackfillGoesOn(t *testing.T) {
	i := install(t, fhirserver.Options{})
	const consents = 3000
	written, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: "con", Keys: consents, Versions: 1})
	i.check(err)
	args := []string{"backfill", "--resources", "Consent", "--since", "3d", "--max-rate", "300", "--topic-prefix", "mass."}
	topic := "mass." + i.site.Topics.Change
	for n, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		d := harness.Start(t, harness.Options{Env: i.env, Command: args})
		_, err := harness.NewReader(t, i.site.Brokers, topic).Until(i.ctx, func(r []harness.Record) bool { return len(r) >= 100*(n+1) })
		i.check(err)
		i.check(d.Signal(signal))
		code, err := d.Wait(i.ctx)
		i.check(err)
		if signal == syscall.SIGINT && (code != 1 || !strings.Contains(d.Logs(), "the same command goes on there")) {
			t.Errorf("after %v the exit code is %d:\n%s", signal, code, d.Logs())
		}
	}
	done := i.backfill(append(args[1:], "--max-rate", "0")...)
	if !done.Done || !done.Resumed || done.Events != consents {
		t.Errorf("the last run has done %+v, want %d events in all", done, consents)
	}
	if len(done.Counts) != 1 || done.Counts[0].Events != consents {
		t.Errorf("the counts by kind are %+v, want those of all runs", done.Counts)
	}
	if again := i.backfill(append(args[1:], "--max-rate", "0")...); !again.Already || again.Events != consents {
		t.Errorf("a run after the last has done %+v", again)
	}
	records, err := harness.NewReader(t, i.site.Brokers, topic).End(i.ctx)
	i.check(err)
	got := contents(t, records, "mass.")
	for _, id := range changeIDs(written...) {
		if _, ok := got[id]; !ok {
			t.Fatalf("event %s is missing", id)
		}
	}
	if len(got) != consents {
		t.Errorf("%d events, want %d", len(got), consents)
	}
	if anew := i.backfill(append(args[1:], "--max-rate", "0", "--restart")...); anew.Resumed || anew.Events != consents {
		t.Errorf("a restart has done %+v", anew)
	}
}

// What an operator gets wrong is said in a line, before anything is changed.
func TestBackfillFaults(t *testing.T) {
	i := install(t, fhirserver.Options{})
	for name, test := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"nonsense source":   {args: []string{"--from", "oplog"}, want: "neither collections nor history"},
		"nonsense time":     {args: []string{"--since", "yesterday-ish"}, want: "since"},
		"future time":       {args: []string{"--since", "2999-01-01"}, want: "future"},
		"reversed span":     {args: []string{"--since", "1d", "--until", "2d"}, want: "--until lies before --since"},
		"unknown kind":      {args: []string{"--kinds", "delete"}, want: "none of change, export, accessed_everything"},
		"nothing left":      {args: []string{"--kinds", "export", "--resources", "Consent"}, want: "nothing to publish"},
		"missing topics":    {env: []string{"FHIR_CDC_TOPICS_CREATE", "false"}, args: []string{"--topic-prefix", "nowhere."}, want: "nowhere."},
		"negative max rate": {args: []string{"--max-rate", "-1"}, want: "no whole number from 0 on"},
	} {
		t.Run(name, func(t *testing.T) {
			d := harness.Start(t, harness.Options{Env: harness.With(i.env, test.env...), Command: append([]string{"backfill"}, test.args...)})
			code, err := d.Wait(i.ctx)
			if err != nil || code != 2 || !strings.Contains(d.Logs(), test.want) {
				t.Errorf("exit code %d, error %v:\n%s", code, err, d.Logs())
			}
		})
	}
	topics, err := harness.Admin(t, i.site.Brokers).ListTopics(i.ctx)
	i.check(err)
	for _, name := range topics.Names() {
		if strings.HasSuffix(name, i.site.Topics.Change) {
			t.Errorf("topic %s was created", name)
		}
	}
}
