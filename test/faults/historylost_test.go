package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// logGap and logRepaired begin and end a repair, logReaches says that none is needed.
	logGap, logRepaired = "history lost: the changes of a time", "lost history is repaired"
	logReaches          = "the oplog still reaches back"
)

// gone is a server's answer that a stream cannot be read on.
type gone struct {
	code  int
	label string
	// reaches says that the changes are still in the oplog: the first two answers only
	// are errors, not the third, to the question for the time of the position.
	reaches bool
}

func (g gone) String() string {
	return fmt.Sprintf("%d %s (the oplog reaches back: %v)", g.code, g.label, g.reaches)
}

// answer has the server answer so to the daemon's next change streams.
func (g gone) answer(ctx context.Context, admin *mongo.Database, client string) error {
	// The requests seen before, the stream itself, and the stream at the position's time.
	times := 3
	if g.reaches {
		times = 2
	}
	data := bson.D{{Key: "failCommands", Value: bson.A{"aggregate"}}, {Key: "appName", Value: client}, {Key: "errorCode", Value: g.code}}
	if g.label != "" {
		data = append(data, bson.E{Key: "errorLabels", Value: bson.A{g.label}})
	}
	return admin.RunCommand(ctx, bson.D{
		{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: bson.D{{Key: "times", Value: times}}}, {Key: "data", Value: data},
	}).Err()
}

// TestHistoryLost has the server say in each way it knows that a stream's history is
// lost, while changes are written before, in and after the gap. The events are strict: those of
// an export job keep its order.
func TestHistoryLost(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	brokers := sharedBrokers(t)
	i := install(t, exactlyOnce(), harness.NewSite(t, m.URI, brokers).InProfile(mapper.ProfileStrict))
	client := connect(t, m.URI)
	gap := newGapLoad(client, i.site, seed(t, 0), scaled(400, soakFactor))
	await := gap.begin(ctx, t)

	ways := []gone{
		{code: 286},   // ChangeStreamHistoryLost
		{code: 280},   // ChangeStreamFatalError
		{code: 260},   // InvalidResumeToken
		{code: 464},   // a resume token of an unknown version
		{code: 50811}, // malformed KeyString
		{code: 8, label: "NonResumableChangeStreamError"},
		{code: 280, reaches: true},
	}
	d := i.startReady(ctx)
	for n, way := range ways {
		// Up to the very end changes are published that the repair will see again.
		gap.open(2 * n)
		i.caughtUp(ctx, gap.load)
		gap.open(2*n + 1)
		if n%2 == 0 {
			if err := d.Kill(); err != nil {
				t.Fatal(err)
			}
		} else if code, err := d.Stop(ctx); err != nil || code != 0 {
			t.Fatalf("stopped with exit code %d, error %v", code, err)
		}
		gap.open(2*n + 2)
		gap.reach(ctx, t)
		gap.more(ctx, t, fmt.Sprintf("gap-%d", n))
		if err := way.answer(ctx, client.Database("admin"), "fhir-cdc/"+i.site.Name); err != nil {
			t.Fatal(err)
		}
		gap.open(2*n + 3) // while it is repaired
		d = i.start()
		want := logRepaired
		if way.reaches {
			want = logReaches
		}
		if err := d.WaitForLog(ctx, want); err != nil {
			t.Fatalf("%v: %v", way, err)
		}
		t.Logf("%v: %s", way, lastLog(d, want))
	}
	gap.openAll()
	await()
	gap.verify(ctx, i)
	if got := auditActions(ctx, t, i.site); got["gap"] != len(ways)-1 || got["repaired"] != len(ways)-1 {
		t.Errorf("the audit topic tells of %v, want %d gaps and repairs", got, len(ways)-1)
	}
}

// TestRepairKilled kills the daemon in the middle of a repair, again and again.
func TestRepairKilled(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	brokers := sharedBrokers(t)
	i := install(t, exactlyOnce(), harness.NewSite(t, m.URI, brokers))
	client := connect(t, m.URI)
	gap := newGapLoad(client, i.site, seed(t, 0), 300)
	await := gap.begin(ctx, t)
	d := i.startReady(ctx)
	gap.open(1)
	gap.reach(ctx, t)
	i.caughtUp(ctx, gap.load)
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	gap.bulk(ctx, t, scaled(4000, soakFactor))
	gap.more(ctx, t, "gap")
	if err := (gone{code: 286}).answer(ctx, client.Database("admin"), "fhir-cdc/"+i.site.Name); err != nil {
		t.Fatal(err)
	}
	random := newRandom(gap.seed)
	reader := harness.NewReader(t, brokers, i.topics()...)
	finished := 0
	for n := range 6 {
		d = i.start()
		before := len(reader.Records())
		if n == 0 {
			// Some of the repair has been committed, or it is over.
			_, err := reader.Until(ctx, func(r []harness.Record) bool { return len(r) > before+200 })
			if err != nil {
				t.Fatal(err)
			}
		} else if err := d.WaitForLog(ctx, "repair of lost history goes on", logRepaired, harness.LogResumes); err != nil {
			t.Fatal(err)
		}
		if err := pass(ctx, between(random, 0, 300*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := d.Kill(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(d.Logs(), logRepaired) {
			finished = n + 1
			break
		}
	}
	t.Logf("killed in the middle of the repair: it ended in life %d (0: after the kills)", finished)
	if finished == 1 {
		t.Error("the repair was over before the first kill: this run proves nothing")
	}
	gap.openAll()
	i.start()
	await()
	gap.verify(ctx, i)
}

// TestHistoryLostStops is the other policy: nothing is published, and an operator is
// told what to do.
func TestHistoryLostStops(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	brokers := sharedBrokers(t)
	i := install(t, exactlyOnce(), harness.NewSite(t, m.URI, brokers))
	i.env["FHIR_CDC_REPAIR_ON_HISTORY_LOST"] = "stop"
	client := connect(t, m.URI)
	d := i.startReady(ctx)
	if code, err := d.Stop(ctx); err != nil || code != 0 {
		t.Fatalf("stopped with exit code %d, error %v", code, err)
	}
	server := fhirserver.New(client, fhirserver.Options{Databases: i.site.Databases})
	if _, err := server.CreateConsent(ctx, "con-1"); err != nil {
		t.Fatal(err)
	}
	if err := (gone{code: 286}).answer(ctx, client.Database("admin"), "fhir-cdc/"+i.site.Name); err != nil {
		t.Fatal(err)
	}
	d = i.start()
	if code, err := d.Wait(ctx); err != nil || code != 4 {
		t.Errorf("exit code %d, error %v; want 4", code, err)
	}
	if !strings.Contains(d.Logs(), "on_history_lost: repair") {
		t.Error("the message does not say what to do")
	}
	records, err := harness.NewReader(t, brokers, i.topics()...).End(ctx)
	if err != nil || len(records) != 0 {
		t.Errorf("%d records were published, error %v", len(records), err)
	}
}

// lastLog is the daemon's last log entry with a text, without what it is made of.
func lastLog(d *harness.Daemon, text string) string {
	last := ""
	for line := range strings.Lines(d.Logs()) {
		if strings.Contains(line, text) {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

// auditActions counts what the audit topic tells of.
func auditActions(ctx context.Context, t *testing.T, site harness.Site) map[string]int {
	t.Helper()
	records, err := harness.NewReader(t, site.Brokers, site.Topics.Audit).End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, r := range records {
		var entry struct {
			Action string `json:"action"`
		}
		if err := json.Unmarshal(r.Value, &entry); err != nil {
			t.Fatalf("audit record %s: %v", r.Value, err)
		}
		count[entry.Action]++
	}
	return count
}
