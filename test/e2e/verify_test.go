package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// verified is the JSON output of the command verify.
type verified struct {
	Clean      bool
	Topics     []verifiedTopic
	Missing    []struct{ ID, Topic string }
	Duplicated []struct{ First struct{ ID, Topic string } }
	Unexpected []struct {
		ID, Topic string
		Partition int32
		Offset    int64
		Reason    string
	}
	OutOfOrder []struct{ ID, After string }
	Notes      []string
}

type verifiedTopic struct {
	Topic                                                                                  string
	Records, Expected, Missing, Held, Duplicated, Unexpected, OutOfOrder, Unseen, Repaired int
}

// sum adds a count of all topics up.
func (v verified) sum(count func(i int) int) (n int) {
	for i := range v.Topics {
		n += count(i)
	}
	return n
}

// verify runs the command and checks that its exit code is what its result says.
func (i *installation) verify(args ...string) verified {
	i.t.Helper()
	d, code := i.run(harness.Options{Command: append([]string{"verify", "--output", "json", "--limit", "100000"}, args...)})
	var v verified
	if err := json.Unmarshal([]byte(d.Stdout()), &v); err != nil {
		i.t.Fatalf("verify %v: exit code %d, %v\n%s%s", args, code, err, d.Stdout(), d.Logs())
	}
	if (code == 0) != v.Clean || code > 1 {
		i.t.Errorf("verify %v: exit code %d, clean %v", args, code, v.Clean)
	}
	return v
}

// copied makes the installation's event topics copies of the live ones, as a consumer
// that leaves records out and writes others would make them. Records keep their
// partitions and times.
func (i *installation) copied(prefix string, live []harness.Record, more ...harness.Record) {
	i.t.Helper()
	admin := harness.Admin(i.t, i.site.Brokers)
	topics := prefixed(prefix, i.site.Topics.Events()...)
	responses, err := admin.CreateTopics(i.ctx, 3, 1, nil, topics...)
	i.check(err)
	i.check(responses.Error())
	i.produce(prefix, slices.Concat(live, more))
	i.with("KAFKA_RESOURCE_CHANGE_TOPIC", topics[0], "KAFKA_BULK_EXPORT_EVENT_TOPIC", topics[1], "KAFKA_FHIR_OPERATION_USAGE_EVENT_TOPIC", topics[2])
	if topic := i.site.Topics.ResourceChange; topic != "" {
		i.with("KAFKA_SSE_RESOURCE_CHANGE_TOPIC", prefix+topic)
	}
	if topic := i.site.Topics.PersonLink; topic != "" {
		i.with("KAFKA_PATIENT_PERSON_LINK_EVENT_TOPIC", prefix+topic)
	}
	if topic := i.site.Topics.PatientData; topic != "" {
		i.with("PATIENT_DATA_CHANGE_EVENT_TOPIC", prefix+topic, "PERSON_DATA_CHANGE_EVENT_TOPIC", prefix+i.site.Topics.PersonData)
	}
}

// produce writes records into copies of their topics.
func (i *installation) produce(prefix string, copies []harness.Record) {
	i.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(i.site.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(-1))
	i.check(err)
	defer client.Close()
	var records []*kgo.Record
	for _, r := range copies {
		record := &kgo.Record{Topic: prefix + r.Topic, Partition: r.Partition, Key: []byte(r.Key), Value: r.Value, Timestamp: r.Timestamp}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
		}
		records = append(records, record)
	}
	i.check(client.ProduceSync(i.ctx, records...).FirstErr())
}

func idsOf[T any](list []T, id func(T) string) []string {
	ids := make([]string, len(list))
	for n, one := range list {
		ids[n] = id(one)
	}
	slices.Sort(ids)
	return ids
}

// Records that a copy of the topics lacks, has twice or has beside the events are
// found, those and no others; what is missing is brought by a repair, byte for byte.
func TestVerify(t *testing.T) { testVerify(t, 1000, testTimeout) }

// TestSoakVerify is TestVerify with 50,000 changes.
func TestSoakVerify(t *testing.T) {
	if os.Getenv("FHIR_CDC_TEST_SOAK") == "" {
		t.Skip("takes minutes: make soak")
	}
	testVerify(t, 16_667, 20*time.Minute)
}

// testVerify writes three versions of each of keys Consents, and some of all else.
func testVerify(t *testing.T, keys int, limit time.Duration) {
	// A set that is younger than the tolerance tells of less.
	i := install(t, fhirserver.Options{}).withEveryKind().with("FHIR_CDC_FACTS_WAIT", slowMachine, "FHIR_CDC_REPAIR_CLOCK_TOLERANCE", "1s")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	i.ctx = ctx
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	since := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	i.start()
	reader := i.reader()
	ids := i.everyKind(keys)
	i.until(reader, ids...)
	all, err := reader.End(i.ctx)
	i.check(err)
	live := slices.DeleteFunc(all, func(r harness.Record) bool { return r.Topic == i.site.Topics.DeadLetters })

	// While the daemon runs.
	if v := i.verify("--since", since); !v.Clean || v.sum(func(n int) int { return v.Topics[n].Expected }) > len(ids) {
		t.Errorf("the live topics are not clean: %+v", v)
	}

	// Of the kind with the fewest events, chance would seldom take one.
	dropped := map[int]bool{slices.IndexFunc(live, func(r harness.Record) bool { return r.Topic == i.site.Topics.PersonLink }): true}
	for len(dropped) < 100 {
		dropped[random.IntN(len(live))] = true
	}
	var kept, lost, again, foreign []harness.Record
	for n, r := range live {
		if dropped[n] {
			lost = append(lost, r)
		} else {
			kept = append(kept, r)
		}
	}
	for _, n := range random.Perm(len(kept))[:50] {
		again = append(again, kept[n])
	}
	for n := range 10 {
		r := kept[random.IntN(len(kept))]
		r.Key, r.Headers = fmt.Sprintf("foreign-%d", n), nil
		r.Value = []byte(`{"resourceType":"AuditEvent","id":"` + uuid.NewString() + `"}`)
		foreign = append(foreign, r)
	}
	foreign[0].Value = []byte("no JSON, and no id")
	foreign[1] = kept[0]
	foreign[1].Key = "not the key of its id"
	i.awaitPosition(since, len(ids))

	t.Run("missing", func(t *testing.T) {
		i := i.of(t)
		i.copied("lacking.", kept)
		v := i.verify("--since", since)
		want := idsOf(lost, harness.Record.EventID)
		got := idsOf(v.Missing, func(m struct{ ID, Topic string }) string { return m.ID })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("missing (-dropped +found):\n%s", diff)
		}
		if n := v.sum(func(n int) int { return v.Topics[n].Duplicated + v.Topics[n].Unexpected + v.Topics[n].OutOfOrder }); n != 0 {
			t.Errorf("%d other faults: %+v", n, v.Topics)
		}
		if v = i.verify("--since", since, "--repair"); !v.Clean || v.sum(func(n int) int { return v.Topics[n].Repaired }) != 100 {
			t.Errorf("the repair: %+v", v)
		}
		if v = i.verify("--since", since); !v.Clean {
			t.Errorf("after the repair: %+v", v)
		}
		repaired, err := harness.NewReader(t, i.site.Brokers, prefixed("lacking.", i.site.Topics.Events()...)...).End(i.ctx)
		i.check(err)
		if diff := cmp.Diff(byID(live, ""), byID(repaired, "lacking.")); diff != "" {
			t.Errorf("the repaired topics differ from the live ones (-live +repaired):\n%s", diff)
		}
	})
	t.Run("two repairs at once", func(t *testing.T) {
		i := i.of(t)
		i.copied("doubly.", kept)
		i.repairedTwice(since)
		if v := i.verify("--since", since, "--repair"); !v.Clean || v.sum(func(n int) int { return v.Topics[n].Duplicated }) != 0 {
			t.Errorf("after both: %+v", v)
		}
	})
	t.Run("duplicated and foreign", func(t *testing.T) {
		i := i.of(t)
		i.copied("crowded.", live, append(again, foreign...)...)
		v := i.verify("--since", since)
		got := idsOf(v.Duplicated, func(d struct{ First struct{ ID, Topic string } }) string { return d.First.ID })
		if diff := cmp.Diff(idsOf(again, harness.Record.EventID), got); diff != "" {
			t.Errorf("duplicated (-repeated +found):\n%s", diff)
		}
		var unexpected []string
		reasons := map[string]int{}
		for _, u := range v.Unexpected {
			unexpected = append(unexpected, u.ID)
			reasons[u.Reason]++
		}
		if diff := cmp.Diff(map[string]int{"no_event_id": 1, "other_key": 1, "unknown_id": 8}, reasons); diff != "" {
			t.Errorf("reasons (-want +got):\n%s", diff)
		}
		slices.Sort(unexpected)
		if diff := cmp.Diff(idsOf(foreign, harness.Record.EventID), unexpected); diff != "" {
			t.Errorf("unexpected (-foreign +found):\n%s", diff)
		}
		if n := v.sum(func(n int) int { return v.Topics[n].Missing + v.Topics[n].OutOfOrder }); n != 0 || v.Clean {
			t.Errorf("%d other faults, clean %v: %+v", n, v.Clean, v.Topics)
		}
	})
}

// repairedTwice runs two repairs at once: the one that begins later ends the other, if
// that is not done by then.
func (i *installation) repairedTwice(since string) {
	i.t.Helper()
	var both []*harness.Daemon
	for range 2 {
		both = append(both, harness.Start(i.t, harness.Options{Env: i.env, Command: []string{"verify", "--since", since, "--repair"}}))
	}
	done := 0
	for _, d := range both {
		switch code := i.wait(d); {
		case code == 0:
			done++
		case code != 1 || !strings.Contains(d.Logs(), "another verify --repair of stream"):
			i.t.Errorf("exit code %d\n%s%s", code, d.Stdout(), d.Logs())
		}
	}
	if done == 0 {
		i.t.Error("neither of two repairs came to its end")
	}
}

// of is the installation for a subtest, with an environment of its own.
func (i *installation) of(t *testing.T) *installation {
	sub := *i
	sub.t, sub.env = t, maps.Clone(i.env)
	return &sub
}

// awaitPosition waits until the stream's stored position lies after all that was
// written: verify asks for nothing beyond it.
func (i *installation) awaitPosition(since string, events int) {
	i.t.Helper()
	for {
		v := i.verify("--since", since)
		n := v.sum(func(n int) int { return v.Topics[n].Expected })
		if n == events {
			return
		}
		if i.ctx.Err() != nil {
			i.t.Fatalf("verify asks for %d events, want %d: %v", n, events, context.Cause(i.ctx))
		}
	}
}

// byID are records by topic and id.
func byID(records []harness.Record, prefix string) map[string]content {
	all := map[string]content{}
	for _, r := range records {
		topic := strings.TrimPrefix(r.Topic, prefix)
		all[topic+"/"+r.EventID()] = content{Topic: topic, Key: r.Key, Value: string(r.Value), Headers: r.Headers}
	}
	return all
}

// Without a directory for intermediate results, as in an image of the program alone with a
// root that is read-only, a verification that fits into memory is as good as any other.
func TestVerifyWithoutTemporaryDirectory(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("TMPDIR", "/nonexistent")
	d := i.start()
	i.until(i.reader(), changeID(i.consent("con-1")))
	i.stop(d)
	stdout, stderr, code := i.command("verify", "--since", "1h")
	if code != 0 || !strings.Contains(stdout, "CLEAN") || !strings.Contains(stderr, "--temp-dir names a directory") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}
