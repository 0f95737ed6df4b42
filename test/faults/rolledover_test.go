package faults_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// smallOplog is the size in MB of an oplog that is soon full.
	smallOplog = 8
	// fillerBytes is the size of a document that only fills the oplog.
	fillerBytes = 1 << 20
)

// TestHistoryRolledOver has an oplog that is smaller than what is written while the
// daemon is away: nothing is made up about the history, it is gone.
func TestHistoryRolledOver(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	rolledOver(ctx, t, scaled(1500, soakFactor))
}

// TestSoakHistoryRolledOver is the same with a gap of 100,000 changes.
func TestSoakHistoryRolledOver(t *testing.T) {
	if !soaking() {
		t.Skip("takes minutes; make soak runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	t.Cleanup(cancel)
	rolledOver(ctx, t, 50_000)
}

// rolledOver loses a gap of two changes each of a number of Consents.
func rolledOver(ctx context.Context, t *testing.T, consents int) {
	t.Helper()
	m := services.MongoDBForTest(t, services.MongoDBOptions{
		OplogMB: smallOplog,
		// The oplog is cut off up to the last checkpoint only, which is every minute.
		Args: []string{"--syncdelay", "1"},
	})
	brokers := sharedBrokers(t)
	i := install(t, exactlyOnce(), harness.NewSite(t, m.URI, brokers).WithResourceChange("Consent", "ExportStatus"))
	i.env["FHIR_CDC_EVENTS_RESOURCE_CHANGE_DELETES"] = "false" // a repair knows none
	client := connect(t, m.URI)
	gap := newGapLoad(client, i.site, seed(t, 0), 420)
	await := gap.begin(ctx, t)
	d := i.startReady(ctx)
	gap.open(5)
	gap.reach(ctx, t)
	i.caughtUp(ctx, gap.load)
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	away := time.Now()
	gap.open(10)
	gap.reach(ctx, t)
	gap.bulk(ctx, t, consents)
	gap.more(ctx, t, "gap")
	rollOver(ctx, t, client, i.site.Databases.Main, away)

	began := time.Now()
	gap.open(15) // while it is repaired
	d = i.start()
	if err := d.WaitForLog(ctx, logRepaired); err != nil {
		t.Fatal(err)
	}
	t.Logf("repaired %v after the start of the process: %s", time.Since(began).Round(time.Millisecond), lastLog(d, logRepaired))
	if !strings.Contains(d.Logs(), "ChangeStreamHistoryLost") {
		t.Error("the server did not say that the history is lost")
	}
	gap.openAll()
	await()
	gap.verify(ctx, i)
}

// rollOver writes until the oplog holds nothing of a time any more.
func rollOver(ctx context.Context, t *testing.T, client *mongo.Client, database string, lost time.Time) {
	t.Helper()
	filler := client.Database(database).Collection("filler")
	document := bson.D{{Key: "filler", Value: strings.Repeat("x", fillerBytes)}}
	for written := 0; ; written++ {
		if _, err := filler.InsertOne(ctx, document); err != nil {
			t.Fatal(err)
		}
		if int64(oldestOf(ctx, t, client).T) > lost.Unix()+1 {
			t.Logf("the oplog has rolled over after %d MB more", written)
			return
		}
	}
}
