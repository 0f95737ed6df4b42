package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// Whatever the streams and the delivery, a replay makes the live records again and a
// verification finds nothing wrong.
func TestReplayAndVerifyOfManyStreams(t *testing.T) {
	for _, delivery := range []string{"exactly_once", "at_least_once"} {
		t.Run(delivery, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).withEveryKind().with("FHIR_CDC_FACTS_WAIT", slowMachine, "FHIR_CDC_DELIVERY", delivery, "FHIR_CDC_CHECKPOINT_IDLE_INTERVAL", "1s")
			i.with("FHIR_CDC_STREAMS", fmt.Sprintf("[{name: consents, resources: [Consent], slices: 3}, {name: usage, databases: [%s, %s]}]",
				i.site.Databases.AuditEvents, i.site.Databases.AccessLogs))
			since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
			i.start()
			reader := i.reader()
			ids := i.everyKind(100)
			i.until(reader, ids...)
			all, err := reader.End(i.ctx)
			i.check(err)
			live := slices.DeleteFunc(all, func(r harness.Record) bool { return r.Topic == i.site.Topics.DeadLetters })
			i.awaitPosition(since, len(ids))

			one := i.verify("--since", since, "--stream", "consents-1-of-3")
			if n := one.sum(func(n int) int { return one.Topics[n].Expected }); !one.Clean || n == 0 || n >= 300 {
				t.Errorf("of one slice %d events are asked for, clean %v: %+v", n, one.Clean, one)
			}
			i.succeeds("replay", "--from-time", since, "--topic-prefix", "again.")
			again, err := harness.NewReader(t, i.site.Brokers, prefixed("again.", i.site.Topics.Events()...)...).End(i.ctx)
			i.check(err)
			if diff := cmp.Diff(byTopicAndKey(live, ""), byTopicAndKey(again, "again.")); diff != "" {
				t.Errorf("the replay differs from what was live (-live +replay):\n%s", diff)
			}
			i.refused([]string{"belongs to one stream", "--stream"}, "replay", "--from-token", "826B03917D000000012B0229296E04", "--dry-run")

			// The same once more, in the live topics: a fault only where it must not be.
			i.succeeds("replay", "--from-time", since, "--same-topics", "--kinds", "export")
			v := i.verify("--since", since)
			if n := v.sum(func(n int) int { return v.Topics[n].Duplicated }); n != 15 || v.Clean != (delivery == "at_least_once") {
				t.Errorf("15 repeated events, %s: %d duplicated, clean %v", delivery, n, v.Clean)
			}
		})
	}
}

// A replay makes what was chosen, and nothing else, up to the token that was given.
func TestReplayChooses(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_FACTS_WAIT", slowMachine)
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	i.start()
	reader := i.reader()
	ids := i.everyKind(20)
	i.until(reader, ids...)
	// A token that lies behind what has been published.
	token := i.position().Position.Token
	i.until(reader, changeID(i.consent("behind-the-token")))
	all, err := reader.End(i.ctx)
	i.check(err)
	live := slices.DeleteFunc(all, func(r harness.Record) bool { return r.Topic == i.site.Topics.DeadLetters })
	type choice struct {
		args []string
		keep func(harness.Record) bool
	}
	of := func(topic string) func(harness.Record) bool {
		return func(r harness.Record) bool { return r.Topic == topic }
	}
	one := live[len(live)/2].EventID()
	for name, c := range map[string]choice{
		"kinds": {[]string{"--kinds", "export,accessed_everything"}, func(r harness.Record) bool { return r.Topic != i.site.Topics.Change }},
		"kind":  {[]string{"--kind", "export"}, of(i.site.Topics.Export)},
		"resources": {[]string{"--resources", "ExportStatus", "--kinds", "change"}, func(r harness.Record) bool {
			return strings.HasPrefix(r.Key, "job-") && r.Topic == i.site.Topics.Change
		}},
		"ids":      {[]string{"--ids", one + ",con-000003"}, func(r harness.Record) bool { return r.EventID() == one || r.Key == "con-000003" }},
		"to-token": {[]string{"--to-token", token}, func(r harness.Record) bool { return r.Key != "behind-the-token" }},
		"nothing":  {[]string{"--ids", "no-such-id"}, func(harness.Record) bool { return false }},
	} {
		prefix := name + "."
		i.succeeds(append([]string{"replay", "--from-time", since, "--topic-prefix", prefix}, c.args...)...)
		got, err := harness.NewReader(t, i.site.Brokers, prefixed(prefix, i.site.Topics.Events()...)...).End(i.ctx)
		i.check(err)
		want := slices.DeleteFunc(slices.Clone(live), func(r harness.Record) bool { return !c.keep(r) })
		if diff := cmp.Diff(byTopicAndKey(want, ""), byTopicAndKey(got, prefix)); diff != "" || (len(want) == 0) != (name == "nothing") {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// From the token on there is what came after it.
	var dry struct{ First []struct{ Key string } }
	i.check(json.Unmarshal([]byte(i.succeeds("replay", "--from-token", token, "--stream", "main", "--dry-run", "--output", "json")), &dry))
	if len(dry.First) == 0 || dry.First[len(dry.First)-1].Key != "behind-the-token" {
		t.Errorf("from the token on: %+v", dry.First)
	}
}

// interruptedRun starts a command again and again until it is interrupted in its
// middle: on a quick machine it may be over before. begun is true when it has begun.
func (i *installation) interruptedRun(begun func(*harness.Daemon, int) bool, command func(int) []string) *harness.Daemon {
	i.t.Helper()
	for n := 0; ; n++ {
		d := harness.Start(i.t, harness.Options{Env: i.env, Command: command(n)})
		i.eventually("the command has begun or ended", func() bool {
			select {
			case <-d.Done():
				return true
			default:
				return begun(d, n)
			}
		})
		i.check(d.Signal(syscall.SIGINT))
		switch code := i.wait(d); code {
		case exitFailure:
			return d
		case 0: // it was over
		default:
			i.t.Fatalf("exit code %d after SIGINT\n%s", code, d.Logs())
		}
	}
}

// Ctrl-C in the middle of a replay says how to go on, and then all is there once; in
// the middle of a verification it leaves nothing behind.
func TestInterrupted(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_FACTS_REQUEST_ID", "false")
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	d := i.start()
	reader := i.reader()
	written, err := i.fhir.BulkConsents(i.ctx, fhirserver.Bulk{Prefix: "con", Keys: 10_000, Versions: 2})
	i.check(err)
	i.until(reader, changeIDs(written...)...)
	i.stop(d)

	prefixOf := func(n int) string { return fmt.Sprintf("cut-%d.", n) }
	prefix := ""
	cut := i.interruptedRun(func(_ *harness.Daemon, n int) bool {
		ends, err := harness.Admin(t, i.site.Brokers).ListEndOffsets(i.ctx, prefixOf(n)+i.site.Topics.Change)
		if err != nil || ends.Error() != nil {
			return false
		}
		for _, partition := range ends[prefixOf(n)+i.site.Topics.Change] {
			if partition.Offset > 0 {
				return true
			}
		}
		return false
	}, func(n int) []string {
		prefix = prefixOf(n)
		return []string{"replay", "--from-time", since, "--topic-prefix", prefix}
	})
	advice := regexp.MustCompile(`go on with (--stream main --from-token [0-9A-Fa-f]+)`).FindStringSubmatch(cut.Logs())
	if advice == nil {
		t.Fatalf("it is not said how to go on:\n%s", cut.Logs())
	}
	i.succeeds(append([]string{"replay", "--topic-prefix", prefix}, strings.Fields(advice[1])...)...)
	again, err := harness.NewReader(t, i.site.Brokers, prefix+i.site.Topics.Change).End(i.ctx)
	i.check(err)
	if diff := cmp.Diff(count(changeIDs(written...)), count(harness.EventIDs(again))); diff != "" {
		t.Errorf("both parts of the replay together (-want +got):\n%s", diff)
	}

	dir := t.TempDir()
	cut = i.interruptedRun(func(d *harness.Daemon, _ int) bool {
		// It is connected to the brokers: three sockets and more.
		files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.Pid()))
		return len(files) > 10
	}, func(int) []string { return []string{"verify", "--since", since, "--temp-dir", dir} })
	if !strings.Contains(cut.Logs(), "nothing is left behind") || cut.Stdout() != "" {
		t.Errorf("after SIGINT:\n%s%s", cut.Stdout(), cut.Logs())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if v := i.verify("--since", since); !v.Clean {
		t.Errorf("the next verification: %+v", v)
	}
}
