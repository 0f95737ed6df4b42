package e2e_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// Watched collections are dropped and renamed, and their database is dropped, while the
// daemon runs: the stream goes on, and every change before and after has its event.
func TestCollectionsThatGo(t *testing.T) {
	for name, usage := range map[string]string{"the stream of a cluster": "1", "the stream of a database": ""} {
		t.Run(name, func(t *testing.T) {
			i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).
				with("FHIR_CDC_FACTS_REQUEST_ID", "false", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS", usage)
			d := i.start()
			reader := harness.NewReader(t, i.site.Brokers, i.site.Topics.Change, i.site.Topics.DeadLetters)
			main := shared.client.Database(i.site.Databases.Main)
			consents := main.Collection("Consent_4_0_0")
			rename := func(from, to string) error {
				return shared.client.Database("admin").RunCommand(i.ctx, bson.D{
					{Key: "renameCollection", Value: main.Name() + "." + from}, {Key: "to", Value: main.Name() + "." + to}, {Key: "dropTarget", Value: true},
				}).Err()
			}
			ids := changeIDs(i.consent("first"))
			for n, end := range []func() error{
				func() error { return consents.Drop(i.ctx) },
				func() error { return rename("Consent_4_0_0", "Consent_before") },
				func() error { return rename("Consent_before", "Consent_4_0_0") },
				func() error { return main.Drop(i.ctx) },
				func() error { return main.Drop(i.ctx) },
			} {
				i.check(end())
				ids = append(ids, changeID(i.consent(fmt.Sprintf("after-%d", n))))
			}
			i.exactly(reader, ids...)
			i.stop(d)
			i.start()
			ids = append(ids, changeID(i.consent("last")))
			i.exactly(reader, ids...)
		})
	}
}

// A collection that takes a watched one's place, by $out or a rename onto it, is told of as
// one that is dropped: in the log, the metrics and the audit topic. It makes no events.
func TestCollectionReplaced(t *testing.T) {
	i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).
		with("FHIR_CDC_FACTS_REQUEST_ID", "false", "ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS", "")
	d := i.start()
	r := i.withStatus(d, "alone")
	main := shared.client.Database(i.site.Databases.Main)
	ids := changeIDs(i.consent("first"))
	cur, err := main.Collection("Consent_4_0_0").Aggregate(i.ctx, bson.A{bson.D{{Key: "$out", Value: "elsewhere"}}})
	i.check(err)
	i.check(cur.Close(i.ctx))
	cur, err = main.Collection("elsewhere").Aggregate(i.ctx, bson.A{bson.D{{Key: "$out", Value: "Consent_4_0_0"}}})
	i.check(err)
	i.check(cur.Close(i.ctx))
	i.check(shared.client.Database("admin").RunCommand(i.ctx, bson.D{
		{Key: "renameCollection", Value: main.Name() + ".elsewhere"}, {Key: "to", Value: main.Name() + ".Consent_4_0_0"}, {Key: "dropTarget", Value: true},
	}).Err())
	i.check(main.Collection("Consent_4_0_0").Drop(i.ctx))
	ids = append(ids, changeID(i.consent("last")))
	i.exactly(harness.NewReader(t, i.site.Brokers, i.site.Topics.Change, i.site.Topics.DeadLetters), ids...)
	if n := strings.Count(d.Logs(), "a watched collection was replaced by another one"); n != 2 {
		t.Errorf("%d lines tell of it", n)
	}
	_, metrics := i.get(r, "metrics")
	for operation, n := range map[string]int{"replaced": 2, "drop": 1, "rename": 0} {
		if line := fmt.Sprintf(`fhir_cdc_collections_gone_total{operation="%s",stream="main"} %d`, operation, n); !strings.Contains(metrics, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	audited := i.audited("collection_gone")
	if len(audited) != 3 {
		t.Fatalf("the audit topic tells of %v", audited)
	}
	for n, operation := range []string{"replaced", "replaced", "drop"} {
		want := map[string]any{"operation": operation, "database": main.Name(), "collection": "Consent_4_0_0"}
		if diff := cmp.Diff(want, audited[n]["details"]); diff != "" {
			t.Errorf("audit record %d (-want +got):\n%s", n, diff)
		}
	}
}

// The topic of events is deleted while the daemon runs: it waits, not ready, and goes on
// when the topic is there again.
func TestEventTopicDeleted(t *testing.T) {
	for _, delivery := range []string{"exactly_once", "at_least_once"} {
		t.Run(delivery, func(t *testing.T) {
			i := install(t, fhirserver.Options{}).with("FHIR_CDC_RETRY_MAX_BACKOFF", "1s", "FHIR_CDC_DELIVERY", delivery)
			d := i.start()
			r := i.withStatus(d, "alone")
			i.exactly(i.reader(), changeID(i.consent("first")))
			i.deleteTopic(i.site.Topics.Change)
			// What the topic still takes is deleted with it.
			n := 0
			i.eventually("the topic is gone", func() bool {
				n++
				i.consent(fmt.Sprintf("while it goes %d", n))
				return strings.Contains(r.Logs(), "UNKNOWN_TOPIC_OR_PARTITION")
			})
			second := changeID(i.consent("second"))
			i.notReady(r)
			i.createTopic(i.site.Topics.Change)
			i.until(i.reader(), second, changeID(i.consent("third")))
			i.stop(r.Daemon)
		})
	}
}

// The topic of positions is deleted while the daemon runs: it does not begin anew by
// itself, which would skip changes, but waits for a position.
func TestPositionTopicDeleted(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_RETRY_MAX_BACKOFF", "3s", "FHIR_CDC_REPLICAS", "none")
	d := i.start()
	r := i.withStatus(d, "alone")
	reader := i.reader()
	first := i.consent("first")
	i.exactly(reader, changeID(first))
	i.deleteTopic(i.site.Topics.Positions)
	second := changeID(i.consent("second"))
	i.check(d.WaitForLog(i.ctx, i.site.Topics.Positions+" does not exist"))
	i.createTopic(i.site.Topics.Positions)
	i.check(d.WaitForLog(i.ctx, "the position that the stream had is no longer stored: it was at cluster time "))
	i.notReady(r)
	if _, text := i.get(r, "status"); !strings.Contains(text, "fhir-cdc position set") {
		t.Errorf("/status does not say what to do: %s", text)
	}
	was := regexp.MustCompile(`it was at cluster time ([0-9]+,[0-9]+)`).FindStringSubmatch(d.Logs())
	i.setPosition("main", "--from-cluster-time", was[1])
	// Nothing that was published before comes twice.
	i.exactly(reader, changeID(first), second, changeID(i.consent("third")))
	i.stop(d)
}

// The topic of positions is deleted while one of two replicas carries the stream: both say
// so, and the stand-by that takes over does not begin anew, but waits as the owner did.
func TestPositionTopicDeletedUnderReplicas(t *testing.T) {
	i := install(t, fhirserver.Options{}).with("FHIR_CDC_RETRY_MAX_BACKOFF", "3s", "FHIR_CDC_TOPICS_POSITION_PARTITIONS", "2", "FHIR_CDC_SESSION_TIMEOUT", "6s")
	replicas := []*replica{i.replica("one"), i.replica("two")}
	i.eventually("one replica runs the stream, one stands by", func() bool { return i.states(replicas) == "running standing_by" })
	owner, other := i.owner(replicas)
	i.eventually("the stand-by is ready", func() bool {
		code, _ := i.get(other, "readyz")
		return code == http.StatusOK
	})
	reader := i.reader()
	first := i.consent("first")
	ids := changeIDs(first)
	i.exactly(reader, ids...)
	i.deleteTopic(i.site.Topics.Positions)
	ids = append(ids, changeID(i.consent("second")))
	i.check(owner.WaitForLog(i.ctx, i.site.Topics.Positions+" does not exist"))
	i.createTopic(i.site.Topics.Positions)
	const gone = "the position that the stream had is no longer stored: it was at cluster time "
	i.check(owner.WaitForLog(i.ctx, gone))
	i.eventually("the stand-by says that the position is gone", func() bool {
		code, text := i.get(other, "readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "is standing_by: "+gone)
	})
	i.stop(owner.Daemon)
	ids = append(ids, changeID(i.consent("third")))
	i.check(other.WaitForLog(i.ctx, gone))
	i.notReady(other)
	i.setPosition("main", "--from-time", first.LastUpdated.UTC().Add(-time.Second).Format(time.RFC3339))
	i.until(reader, append(ids, changeID(i.consent("fourth")))...)
	i.stop(other.Daemon)
}

// setPosition sets where a stream goes on whose process waits for it. That one may take the
// stream back in the middle of it, to look; an operator tries again then.
func (i *installation) setPosition(stream string, to ...string) {
	i.t.Helper()
	i.eventually("the position is set", func() bool {
		_, stderr, code := i.command(append([]string{"position", "set", stream, "--force"}, to...)...)
		if code != 0 {
			i.t.Logf("position set: exit code %d, %s", code, stderr)
		}
		return code == 0
	})
}

// A topic takes smaller messages than it did when the daemon started: the daemon ends,
// and the next one records what does not fit and goes on. What fits when the limit is
// raised again has its event without another start.
func TestTopicTakesLess(t *testing.T) {
	i := install(t, fhirserver.Options{HistoryDelay: fhirserver.NoHistory}).with("FHIR_CDC_FACTS_REQUEST_ID", "false")
	since := time.Now().Add(-time.Second).Format(time.RFC3339)
	d := i.start()
	reader := i.reader()
	first := changeID(i.consent("first"))
	i.until(reader, first)
	i.maxMessageBytes("400")
	// The broker keeps to the new limit when it has heard of it.
	known := []string{first}
	for ended := false; !ended; {
		id := changeID(i.consent(fmt.Sprintf("second-%d", len(known))))
		i.eventually("the change has its event, or the daemon has ended", func() bool {
			select {
			case <-d.Done():
				ended = true
				return true
			default:
			}
			records, err := reader.End(i.ctx)
			i.check(err)
			return slices.Contains(harness.EventIDs(records), id)
		})
		if !ended {
			known = append(known, id)
		}
	}
	if code := i.wait(d); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	logHas(t, d, "MESSAGE_TOO_LARGE")
	d = i.start()
	records := i.until(reader, append(known, "")...)
	reason := "topic " + i.site.Topics.Change + " takes 400 (the lower of its max.message.bytes and "
	if letters := i.deadLetters(records); len(letters) != 1 || letters[0].Kind != "change" || !strings.Contains(letters[0].Reason, reason) {
		t.Errorf("dead letters %+v, want one of the change that does not fit", letters)
	}
	// The first event is larger than the limit now; that it is there is no fault.
	if v := i.verify("--since", since); !v.Clean {
		t.Errorf("verify finds faults: %+v", v)
	}
	i.maxMessageBytes("100000")
	third := ""
	i.eventually("a change has its event when the limit is raised", func() bool {
		third = changeID(i.consent(fmt.Sprintf("raised-%d", time.Now().UnixNano())))
		i.eventually("the change is in a topic", func() bool {
			n := len(records)
			var err error
			records, err = reader.End(i.ctx)
			i.check(err)
			return len(records) > n
		})
		return slices.Contains(harness.EventIDs(records), third)
	})
	i.stop(d)
}

func (i *installation) maxMessageBytes(limit string) {
	i.t.Helper()
	altered, err := harness.Admin(i.t, i.site.Brokers).AlterTopicConfigs(i.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &limit}}, i.site.Topics.Change)
	i.check(err)
	for _, a := range altered {
		i.check(a.Err)
	}
}

func (i *installation) deleteTopic(topic string) {
	i.t.Helper()
	deleted, err := harness.Admin(i.t, i.site.Brokers).DeleteTopics(i.ctx, topic)
	i.check(err)
	i.check(deleted.Error())
}

// createTopic creates a compacted topic, which suits positions.
func (i *installation) createTopic(topic string) {
	i.t.Helper()
	compact := "compact"
	created, err := harness.Admin(i.t, i.site.Brokers).CreateTopics(i.ctx, 2, 1, map[string]*string{"cleanup.policy": &compact}, topic)
	i.check(err)
	i.check(created.Error())
}

func (i *installation) notReady(r *replica) {
	i.t.Helper()
	i.eventually("/readyz is red", func() bool {
		code, _ := i.get(r, "readyz")
		return code == http.StatusServiceUnavailable
	})
}
