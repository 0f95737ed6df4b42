package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// idleInterval is how often the position of an idle stream is stored; the default is
// 30 s.
const idleInterval = 2 * time.Second

// TestQuietOplogRollsOver has nothing happen that the daemon watches while others
// write so much that the oplog holds nothing of the last event any more. Its position
// has moved along: after a stop, and after a kill, it goes on there, and no history is
// lost.
func TestQuietOplogRollsOver(t *testing.T) {
	t.Parallel()
	quiet(long(t), t, 1)
}

// TestSoakQuietOplogRollsOver does it again and again.
func TestSoakQuietOplogRollsOver(t *testing.T) {
	limit := soakTime(t)
	for round, begin := 1, time.Now(); time.Since(begin) < limit && !t.Failed(); round++ {
		quiet(t.Context(), t, 20)
	}
}

func quiet(ctx context.Context, t *testing.T, times int) {
	t.Helper()
	m := services.MongoDBForTest(t, services.MongoDBOptions{OplogMB: smallOplog, Args: []string{"--syncdelay", "1"}})
	brokers := sharedBrokers(t)
	client := connect(t, m.URI)
	modes := []mode{exactlyOnce(), atLeastOnce("mongodb"), atLeastOnce("file"), atLeastOnce("kafka")}
	modes[0].env["FHIR_CDC_STREAMS"] = "[{name: consents, resources: [Consent], slices: 2}]"
	var all []*quietOne
	for n, mode := range modes {
		mode.env["FHIR_CDC_CHECKPOINT_IDLE_INTERVAL"] = idleInterval.String()
		q := &quietOne{installation: install(t, mode, harness.NewSite(t, m.URI, brokers))}
		q.gap = newGapLoad(client, q.site, seed(t, n), 420)
		q.gap.sliced = true // a resource that comes again may be in another slice
		q.await = q.gap.begin(ctx, t)
		q.startReady(ctx)
		q.gap.open(10)
		q.gap.reach(ctx, t)
		all = append(all, q)
	}
	for _, q := range all {
		q.caughtUp(ctx, q.gap.load)
	}
	for n := range times {
		rollOver(ctx, t, client, "elsewhere", time.Now())
		oldest := oldestOf(ctx, t, client)
		for k, q := range all {
			q.stored(ctx, oldest)
			q.restart(ctx, (n+k)%2 == 0, fmt.Sprintf("away-%d", n))
		}
		t.Logf("%d times: the oplog holds nothing of the time of the last events, all positions are in it", n+1)
	}
	for _, q := range all {
		q.gap.openAll()
		q.await()
		q.gap.verify(ctx, q.installation)
		for _, d := range q.daemons {
			if strings.Contains(d.Logs(), logGap) {
				t.Errorf("%s: history was lost", q.mode.name)
			}
		}
	}
}

// quietOne is an installation that nothing happens at for a while.
type quietOne struct {
	*installation
	gap   *gapLoad
	await func()
}

// stored waits until the stored positions of all streams are after a time of the
// oplog, as an operator sees them.
func (q *quietOne) stored(ctx context.Context, oldest bson.Timestamp) {
	q.t.Helper()
	for {
		d := harness.Start(q.t, harness.Options{Env: q.env, Command: []string{"position", "list", "--output", "json"}})
		if code, err := d.Wait(ctx); err != nil || code != 0 {
			q.t.Fatalf("position list: exit code %d, error %v: %s", code, err, d.Logs())
		}
		var list []struct {
			Position *struct{ ClusterTime struct{ T uint32 } }
		}
		if err := json.Unmarshal([]byte(d.Stdout()), &list); err != nil {
			q.t.Fatal(err)
		}
		behind := 0
		for _, p := range list {
			behind += number(p.Position == nil || p.Position.ClusterTime.T <= oldest.T)
		}
		if len(list) > 0 && behind == 0 {
			return
		}
		if err := pass(ctx, idleInterval/4); err != nil {
			q.t.Fatalf("%s: %d of %d positions have not moved: %v", q.mode.name, behind, len(list), err)
		}
	}
}

// restart ends the daemon, writes something, and starts it again.
func (q *quietOne) restart(ctx context.Context, kill bool, prefix string) {
	q.t.Helper()
	d := q.daemons[len(q.daemons)-1]
	if kill {
		if err := d.Kill(); err != nil {
			q.t.Fatal(err)
		}
	} else if code, err := d.Stop(ctx); err != nil || code != 0 {
		q.t.Fatalf("%s: stopped with exit code %d (%v), want 0", q.mode.name, code, err)
	}
	q.gap.more(ctx, q.t, prefix)
	q.startReady(ctx)
}

// codeCappedPositionLost answers a question for the oldest entry while that is being deleted.
const codeCappedPositionLost = 136

// oldestOf is the time of the oldest entry of the oplog.
func oldestOf(ctx context.Context, t *testing.T, client *mongo.Client) bson.Timestamp {
	t.Helper()
	oldest := options.FindOne().SetSort(bson.D{{Key: "$natural", Value: 1}}).SetProjection(bson.D{{Key: "ts", Value: 1}})
	raw, err := client.Database("local").Collection("oplog.rs").FindOne(ctx, bson.D{}, oldest).Raw()
	for lost := mongo.ServerError(nil); errors.As(err, &lost) && lost.HasErrorCode(codeCappedPositionLost); {
		raw, err = client.Database("local").Collection("oplog.rs").FindOne(ctx, bson.D{}, oldest).Raw()
	}
	if err != nil {
		t.Fatal(err)
	}
	at, increment, ok := raw.Lookup("ts").TimestampOK()
	if !ok {
		t.Fatal("the oldest entry of the oplog has no time")
	}
	return bson.Timestamp{T: at, I: increment}
}
