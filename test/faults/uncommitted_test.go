package faults_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// logRepairWaits and logCommandWaits are of who has found that no majority has what the
	// primary has.
	logRepairWaits  = "the repair waits for a majority"
	logCommandWaits = "waiting for a majority"
)

// uncommitted is a set of three whose secondaries can be held up, so that what is written
// is on the primary only.
type uncommitted struct {
	t   *testing.T
	set *services.ReplicaSet
	i   *installation
	// alone writes to the primary only.
	alone *mongo.Client
	// committed and unsure write as the FHIR server does: until a majority has it, and until
	// the primary has it.
	committed, unsure *fhirserver.Server
	client            *mongo.Client
	reader            *harness.Reader
	want              []string
}

func newUncommitted(t *testing.T) *uncommitted {
	t.Helper()
	set := services.ReplicaSetForTest(t, 3, services.MongoDBOptions{
		TestCommands: true, CacheGB: 0.25, OplogMB: smallOplog, Args: []string{"--syncdelay", "1"},
	})
	brokers := sharedBrokers(t)
	u := &uncommitted{t: t, set: set, i: install(t, exactlyOnce().withFacts(), harness.NewSite(t, set.URI, brokers)), client: connect(t, set.URI)}
	o := fhirserver.Options{Databases: u.i.site.Databases}
	u.committed = fhirserver.New(u.client, o)
	var err error
	u.alone, err = mongo.Connect(options.Client().ApplyURI(set.URI).SetWriteConcern(writeconcern.W1()))
	u.check(err)
	t.Cleanup(func() { _ = u.alone.Disconnect(context.Background()) })
	u.unsure = fhirserver.New(u.alone, o)
	u.reader = harness.NewReader(t, brokers, u.i.topics()...)
	return u
}

func (u *uncommitted) check(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

// expects notes the event of a version.
func (u *uncommitted) expects(r fhirserver.Resource, err error) fhirserver.Resource {
	u.t.Helper()
	u.check(err)
	u.want = append(u.want, changeIDOf(r))
	return r
}

func changeIDOf(r fhirserver.Resource) string {
	return harness.ChangeID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
}

// hold stops or starts the replication of what is a secondary now.
func (u *uncommitted) hold(ctx context.Context, mode string) {
	u.t.Helper()
	uri, err := url.Parse(u.set.URI)
	u.check(err)
	for host := range strings.SplitSeq(uri.Host, ",") {
		member, err := mongo.Connect(options.Client().SetHosts([]string{host}).SetDirect(true).SetServerSelectionTimeout(2 * time.Second))
		u.check(err)
		admin := member.Database("admin")
		var hello struct{ Secondary bool }
		err = admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
		if err == nil && hello.Secondary {
			err = admin.RunCommand(ctx, bson.D{{Key: "configureFailPoint", Value: "stopReplProducer"}, {Key: "mode", Value: mode}}).Err()
		}
		_ = member.Disconnect(context.WithoutCancel(ctx))
		if mode == "alwaysOn" {
			u.check(err)
		}
	}
}

func (u *uncommitted) stop(ctx context.Context, d *harness.Daemon) {
	u.t.Helper()
	if code, err := d.Stop(ctx); err != nil || code != 0 {
		u.t.Fatalf("stopped with exit code %d, error %v", code, err)
	}
}

func (u *uncommitted) arrive(ctx context.Context) {
	u.t.Helper()
	if _, err := u.reader.UntilIDs(ctx, u.want...); err != nil {
		u.t.Error(err)
	}
}

// command starts an operator's command beside the daemon.
func (u *uncommitted) command(args ...string) *harness.Daemon {
	d := harness.Start(u.t, harness.Options{Env: u.i.env, Command: args})
	u.i.daemons = append(u.i.daemons, d)
	return d
}

// TestUncommitted has history lost while only the primary has what was written last. First
// the secondaries come up with it: nothing of it is lost, although the repair's token lies
// behind it and a majority's snapshot before it. Then the primary dies instead, and the
// others elect another: nothing of it is ever an event, neither of the stream nor of the
// repair, of a backfill, a replay or a repair of verify.
func TestUncommitted(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	u := newUncommitted(t)
	u.i.env["FHIR_CDC_REPAIR_CLOCK_TOLERANCE"] = "2s"
	u.i.env["FHIR_CDC_FACTS_WAIT"] = "100ms" // A repair waits 30 times as long for the history.
	d := u.i.startReady(ctx)
	before := time.Now()
	kept := u.expects(u.committed.CreateConsent(ctx, "kept"))
	// So that all collections are there before what no majority has: one that is not is waited for.
	u.expects(u.committed.CreateExportStatus(ctx, "job"))
	request, err := u.committed.Everything(ctx, fhirserver.UUID("person", "acme"), 2, true)
	u.check(err)
	u.arrive(ctx)
	_, err = u.reader.UntilIDs(ctx, harness.AccessedEverythingID(request.SystemID))
	u.check(err)
	u.stop(ctx, d)

	client, err := u.committed.CreatePerson(ctx, "client")
	u.check(err)
	u.hold(ctx, "alwaysOn")
	master, err := u.unsure.CreateMasterPerson(ctx, "master", client)
	u.check(err)
	found := u.personAfterNewest(ctx, client)
	kept = u.expects(u.unsure.ReplaceConsent(ctx, kept))
	kept = u.expects(u.unsure.ReplaceConsent(ctx, kept)) // the history alone tells of the one before
	u.expects(u.unsure.CreateConsent(ctx, "late"))
	u.check(gone{code: 286}.answer(ctx, u.client.Database("admin"), "fhir-cdc/"+u.i.site.Name))
	d = u.i.start()
	u.check(d.WaitForLog(ctx, logRepairWaits))
	u.hold(ctx, "off")
	u.check(d.WaitForLog(ctx, logRepaired))
	if got := found(); got != master.UUID {
		t.Errorf("a look-up of persons after the master Person's change finds %q, want %q", got, master.UUID)
	}
	u.arrive(ctx)
	u.stop(ctx, d)

	// What of the next is rolled back looks older than the position, so that verify asks for it.
	u.expects(u.committed.CreateConsent(ctx, "missed"))
	rollOver(ctx, t, u.client, u.i.site.Databases.Main, time.Now())
	from := time.Unix(int64(oldestOf(ctx, t, u.client).T)+1, 0)
	for time.Now().Before(from.Add(time.Second)) { // The next writes are of the span that is replayed.
		u.check(pass(ctx, askAgain))
	}
	u.hold(ctx, "alwaysOn")
	rolledBack := u.rollBackable(ctx, kept, before)
	daemon := u.i.start()
	u.check(daemon.WaitForLog(ctx, logRepairWaits))
	replay := u.command("replay", "--from-time", from.UTC().Format(time.RFC3339), "--topic-prefix", "replay.")
	current := u.command("backfill", "--from", "collections", "--topic-prefix", "current.")
	history := u.command("backfill", "--from", "history", "--topic-prefix", "history.")
	verify := u.command("verify", "--since", before.Add(-2*time.Second).UTC().Format(time.RFC3339), "--repair", "--output", "json")
	for _, c := range []*harness.Daemon{current, history, verify} {
		if err := c.WaitForLog(ctx, logCommandWaits); err != nil {
			t.Error(err)
		}
	}
	primary, err := u.set.Primary(ctx)
	u.check(err)
	u.check(primary.Kill(ctx))
	u.hold(ctx, "off")
	u.expects(u.committed.CreateConsent(ctx, "after")) // by the next primary
	u.check(primary.Start(ctx))                        // and the former one rolls back
	u.check(daemon.WaitForLog(ctx, logRepaired))
	u.arrive(ctx)
	for name, c := range map[string]*harness.Daemon{"replay": replay, "backfill": current, "backfill from the history": history, "verify": verify} {
		if code, err := c.Wait(ctx); err != nil || code != 0 {
			t.Errorf("%s: exit code %d, error %v\n%s", name, code, err, c.Stdout())
		}
	}
	u.stop(ctx, daemon)
	u.judge(ctx, rolledBack)
}

// personAfterNewest begins to look up the master of a client's person as it is after the newest
// write. The function that it returns waits for the answer.
func (u *uncommitted) personAfterNewest(ctx context.Context, client fhirserver.Resource) func() (master string) {
	u.t.Helper()
	newest, err := majority.Newest(ctx, u.client)
	u.check(err)
	persons := lookup.NewPersons(u.client.Database(u.i.site.Databases.Main), lookup.PersonOptions{SameCluster: true})
	answer := make(chan string, 1)
	go func() {
		found, err := persons.Find(ctx, []string{client.UUID}, newest)
		if err != nil {
			u.t.Error(err)
		}
		answer <- found[client.UUID].BwellPersonID
	}()
	return func() string { return <-answer }
}

// rollBackable writes what only the primary gets, and gives the ids of its events.
func (u *uncommitted) rollBackable(ctx context.Context, kept fhirserver.Resource, before time.Time) map[string]string {
	u.t.Helper()
	next, err := u.unsure.ReplaceConsent(ctx, kept)
	u.check(err)
	fresh, err := u.unsure.CreateConsent(ctx, "fresh")
	u.check(err)
	request, err := u.unsure.Everything(ctx, fhirserver.UUID("person", "acme"), 2, true)
	u.check(err)
	old, err := fhirserver.New(u.alone, fhirserver.Options{Databases: u.i.site.Databases, Now: func() time.Time { return before }}).CreateConsent(ctx, "old")
	u.check(err)
	return map[string]string{
		changeIDOf(next): "the next version of what is kept", changeIDOf(fresh): "a new resource",
		changeIDOf(old): "a resource of before the position", harness.AccessedEverythingID(request.SystemID): "a request",
	}
}

// judge looks for what must not be there, and for what is there twice.
func (u *uncommitted) judge(ctx context.Context, rolledBack map[string]string) {
	u.t.Helper()
	topics := u.i.topics()
	for _, prefix := range []string{"replay.", "current.", "history."} {
		for _, topic := range u.i.site.Topics.Events() {
			topics = append(topics, prefix+topic)
		}
	}
	records, err := harness.NewReader(u.t, u.i.site.Brokers, topics...).End(ctx)
	u.check(err)
	seen := map[string]int{}
	for _, r := range records {
		id := r.EventID()
		if what := rolledBack[id]; what != "" {
			u.t.Errorf("%s was rolled back and is in topic %s", what, r.Topic)
		}
		seen[r.Topic+" "+id]++
		if seen[r.Topic+" "+id] == 2 {
			u.t.Errorf("event %s is twice in topic %s", id, r.Topic)
		}
	}
	live := harness.EventIDs(harness.Of(records, u.i.site.Topics.Change))
	slices.Sort(live)
	want := slices.Sorted(slices.Values(u.want))
	if !slices.Equal(live, want) {
		u.t.Errorf("%d events were published live, want %d:\n%v\n%v", len(live), len(want), live, want)
	}
}
