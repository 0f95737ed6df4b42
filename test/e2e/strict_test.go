package e2e_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// inProfile changes the profile of the events.
func (i *installation) inProfile(profile mapper.Profile) *installation {
	i.site = i.site.InProfile(profile)
	maps.Copy(i.env, i.site.Env())
	return i
}

// Strict events are there once through SIGKILL, those of a job in its order; a replay and a
// backfill make them again to the byte, and a verification is content. One that asks for the
// other profile knows the events too, and says so.
func TestStrictProfile(t *testing.T) {
	i := install(t, fhirserver.Options{}).withEveryKind().with("FHIR_CDC_FACTS_WAIT", slowMachine, "FHIR_CDC_REPLICAS", "none").inProfile(mapper.ProfileStrict)
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	ids := i.everyKind(100)
	i.check(d.Kill())
	d = i.start()
	after := i.consent("after")
	ids = append(ids, changeID(after), compactID(after))
	reader := i.reader()
	i.until(reader, ids...)
	live, err := reader.End(i.ctx)
	i.check(err)
	events := slices.DeleteFunc(slices.Clone(live), func(r harness.Record) bool { return r.Topic == i.site.Topics.DeadLetters })
	if diff := cmp.Diff(count(ids), count(harness.EventIDs(events))); diff != "" {
		t.Errorf("event ids (-want +got):\n%s", diff)
	}
	i.areStrict(events)

	i.succeeds("replay", "--from-time", since, "--topic-prefix", "again.")
	again, err := harness.NewReader(t, i.site.Brokers, prefixed("again.", append(i.site.Topics.Events(), i.site.Topics.DeadLetters)...)...).End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(byTopicAndKey(live, ""), byTopicAndKey(again, "again.")); diff != "" {
		t.Errorf("the replay differs from what was live (-live +replay):\n%s", diff)
	}
	i.backfill("--from", "collections", "--topic-prefix", "filled.")
	filled, err := harness.NewReader(t, i.site.Brokers, prefixed("filled.", i.site.Topics.Events()...)...).End(i.ctx)
	i.check(err)
	was := byID(events, "")
	for id, c := range byID(filled, "filled.") {
		if diff := cmp.Diff(was[id], c); diff != "" {
			t.Errorf("the backfill differs from what was live (-live +backfill):\n%s", diff)
		}
	}
	if len(filled) == 0 {
		t.Error("the backfill has published nothing")
	}
	i.awaitPosition(since, len(ids))
	if v := i.verify("--since", since); !v.Clean || len(otherProfile(v)) > 0 {
		t.Errorf("verify: %+v", v)
	}

	i.stop(d)
	i.inProfile(mapper.ProfileSeed)
	d = i.start()
	seed := i.consent("seed")
	ids = append(ids, changeID(seed), compactID(seed))
	i.until(reader, ids...)
	i.awaitPosition(since, len(ids))
	v := i.verify("--since", since, "--repair")
	want := []string{i.site.Topics.AccessedEverything, i.site.Topics.Change, i.site.Topics.Export, i.site.Topics.PersonLink}
	slices.Sort(want)
	if !v.Clean || v.sum(func(n int) int { return v.Topics[n].Repaired }) > 0 || !slices.Equal(otherProfile(v), want) {
		t.Errorf("verify, asked for the seed's profile, names the topics %q, want %q: %+v", otherProfile(v), want, v)
	}
	all, err := reader.End(i.ctx)
	i.check(err)
	for _, r := range all[len(live):] {
		if r.Headers.Get("traceparent") != "" {
			t.Errorf("%s is strict", r.Value)
		}
	}
	i.stop(d)
}

// otherProfile are the topics of which a verification notes records of another profile.
func otherProfile(v verified) (topics []string) {
	for _, note := range v.Notes {
		if topic, rest, _ := strings.Cut(strings.TrimPrefix(note, "topic "), ": "); strings.Contains(rest, "without the profile") {
			topics = append(topics, topic)
		}
	}
	return topics
}

// areStrict holds that all records are of the strict profile where their kind has it, and that
// the events of an export job have its key and its order. Their forms are in docs/contract.
func (i *installation) areStrict(records []harness.Record) {
	i.t.Helper()
	statuses := map[string][]string{}
	for _, r := range records {
		if strict := r.Topic != i.site.Topics.ResourceChange; (r.Headers.Get("traceparent") != "") != strict {
			i.t.Errorf("the headers of %s in %s are %v", r.EventID(), r.Topic, r.Headers)
		}
		if r.Topic != i.site.Topics.Export {
			continue
		}
		body, err := r.JSON()
		i.check(err)
		data := body["data"].(map[string]any)
		if data["exportJobId"] != r.Key {
			i.t.Errorf("the key of %s is %s", r.Value, r.Key)
		}
		statuses[r.Key] = append(statuses[r.Key], data["status"].(string))
	}
	for job, got := range statuses {
		if !slices.Equal(got, []string{"accepted", "in-progress", "completed"}) {
			i.t.Errorf("the statuses of %s come as %q", job, got)
		}
	}
	if len(statuses) != 5 {
		i.t.Errorf("%d jobs have events, want 5", len(statuses))
	}
}
