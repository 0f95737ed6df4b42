//go:build unix

package faults_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// What the short form writes at least, and what the long one does and suffers.
	clusterChanges                        = 2000
	soakClusterChanges, soakClusterFaults = 100_000, 50
	// clusterRate and soakClusterRate are changes a second; the soak's faults last longer.
	clusterRate, soakClusterRate = 60, 130
	// electionTimeout is the set's; the default makes each fault 7 s longer.
	electionTimeout = 3 * time.Second
)

// TestCluster has three brokers and three mongods, and two installations that carry the
// same changes exactly once: one process, and two replicas. Servers and daemons are killed
// and frozen; changes that the primary alone has are rolled back. In the end what can be
// consumed is compared with the oplog of the last primary.
func TestCluster(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	c := newCluster(ctx, t, clusterRate, 5*time.Second, 7*time.Second)
	// Those that concern most: others come with the soak.
	faults := []fault{
		{"two secondaries killed, the primary's changes rolled back", c.rollBack},
		{"primary killed", c.killed(c.primary)},
		{"two brokers frozen at once", c.frozen(c.brokers(2))},
		{"coordinator of transactions killed", c.killed(c.transactionCoordinator)},
		{"controller frozen", c.frozen(c.controller)},
		{"daemon killed", c.killDaemon},
	}
	c.random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	c.suffer(ctx, faults)
	c.judge(ctx, clusterChanges)
}

// TestSoakCluster is TestCluster with all kinds of faults, 50 in all, and 100,000 changes.
func TestSoakCluster(t *testing.T) {
	soakTime(t) // as long as it takes
	ctx := t.Context()
	c := newCluster(ctx, t, soakClusterRate, 2*time.Second, 15*time.Second)
	var faults []fault
	for kinds := c.kinds(); len(faults) < soakClusterFaults; {
		for _, k := range c.random.Perm(len(kinds)) {
			faults = append(faults, kinds[k])
		}
	}
	c.meanwhile = true
	c.suffer(ctx, faults[:soakClusterFaults])
	c.judge(ctx, soakClusterChanges)
}

// cluster is all servers and daemons.
type cluster struct {
	t     *testing.T
	set   *services.ReplicaSet
	kafka *services.KafkaCluster

	databases fhirserver.Databases
	load      *clusterLoad
	end       func() // of the load
	began     time.Time
	random    *rand.Rand
	// shortest and longest bound how long servers are away.
	shortest, longest time.Duration
	// meanwhile has a daemon die in some of the servers' outages.
	meanwhile     bool
	installations []*clustered
}

// clustered is an installation of one process or more.
type clustered struct {
	*installation
	instances []string
	running   map[string]*harness.Daemon // by instance
	// reader has read `read` records, whose ids are in seen.
	reader *harness.Reader
	read   int
	seen   map[string]bool
}

func newCluster(ctx context.Context, t *testing.T, rate int, shortest, longest time.Duration) *cluster {
	t.Helper()
	c := &cluster{t: t, shortest: shortest, longest: longest}
	c.set = services.ReplicaSetForTest(t, 3, services.MongoDBOptions{CacheGB: 0.25, OplogMB: 2000})
	c.kafka = services.KafkaClusterForTest(t, 3, services.KafkaOptions{HeapMB: 320})
	if err := c.set.ElectAfter(ctx, electionTimeout); err != nil {
		t.Fatal(err)
	}
	random := seed(t, 0)
	c.random = newRandom(random)
	c.began = time.Now()
	first := harness.NewSite(t, c.set.URI, c.kafka.Brokers)
	c.databases = first.Databases
	c.load = newClusterLoad(t, c.set.URI, c.databases, random, rate)
	if err := c.load.prepare(ctx); err != nil {
		t.Fatal(err)
	}
	for _, instances := range [][]string{{""}, {"a", "b"}} {
		site := harness.NewSite(t, c.set.URI, c.kafka.Brokers)
		site.Databases = c.databases
		m := exactlyOnce()
		m.env["FHIR_CDC_REPLICAS"] = "none"
		m.env["FHIR_CDC_EVENTS_CHANGE_DELETES"] = "true"
		if len(instances) > 1 {
			m.name = "replicas"
			m.env["FHIR_CDC_REPLICAS"] = "kafka"
			m.env["FHIR_CDC_SESSION_TIMEOUT"] = sessionTimeout.String()
		}
		i := &clustered{
			installation: install(t, m, site), instances: instances,
			running: map[string]*harness.Daemon{}, seen: map[string]bool{},
		}
		i.reader = harness.NewReader(t, site.Brokers, i.topics()...)
		for _, instance := range instances {
			i.begin(instance)
		}
		c.installations = append(c.installations, i)
	}
	c.end = c.load.begin(ctx, t)
	return c
}

// begin starts an instance's next life.
func (i *clustered) begin(instance string) {
	i.t.Helper()
	if instance != "" {
		i.env["FHIR_CDC_INSTANCE"] = instance
	}
	i.running[instance] = i.start()
}

// alive makes sure that no daemon has ended by itself.
func (c *cluster) alive() {
	c.t.Helper()
	for _, i := range c.installations {
		for instance, d := range i.running {
			select {
			case <-d.Done():
				code, _ := d.Wait(context.Background())
				c.t.Fatalf("%s: the daemon %q has ended by itself with exit code %d", i.mode.name, instance, code)
			default:
			}
		}
	}
}

// consumed waits until the events of some changes can be consumed.
func (c *cluster) consumed(ctx context.Context, ids []string) {
	c.t.Helper()
	for _, i := range c.installations {
		ctx, cancel := whileAlive(ctx, i.daemonsRunning()...)
		_, err := i.reader.Until(ctx, func(records []harness.Record) bool {
			for ; i.read < len(records); i.read++ {
				i.seen[records[i.read].EventID()] = true
			}
			return !slices.ContainsFunc(ids, func(id string) bool { return !i.seen[id] })
		})
		cancel()
		if err != nil {
			c.t.Fatalf("%s has not caught up: %v", i.mode.name, err)
		}
	}
}

func (i *clustered) daemonsRunning() []*harness.Daemon {
	var all []*harness.Daemon
	for _, d := range i.running {
		all = append(all, d)
	}
	return all
}

// suffer lets the faults come one after the other. After each all servers are there again,
// and the daemons catch up with what cannot be rolled back any more.
func (c *cluster) suffer(ctx context.Context, faults []fault) {
	c.t.Helper()
	for len(c.load.latest()) == 0 {
		if err := pass(ctx, askAgain); err != nil {
			c.t.Fatalf("nothing is written: %v", err)
		}
	}
	c.consumed(ctx, c.load.latest())
	for n, f := range faults {
		begin := time.Now()
		if err := f.do(ctx); err != nil {
			c.t.Fatalf("fault %d, %s: %v", n+1, f.name, err)
		}
		if err := c.set.WaitForAll(ctx); err != nil {
			c.t.Fatalf("after fault %d, %s: %v", n+1, f.name, err)
		}
		if err := c.kafka.WaitForAll(ctx); err != nil {
			c.t.Fatalf("after fault %d, %s: %v", n+1, f.name, err)
		}
		healed := time.Now()
		c.consumed(ctx, c.load.latest())
		c.alive()
		majority, primary := c.load.acknowledged()
		c.t.Logf("fault %d, %s: healed after %v, caught up %v later; %d changes so far", n+1, f.name,
			healed.Sub(begin).Round(time.Millisecond), time.Since(healed).Round(time.Millisecond), majority+primary)
	}
}

// judge ends the writing, waits until the daemons have passed the oplog's end, and
// compares what they have published with the oplog of the last primary.
func (c *cluster) judge(ctx context.Context, changes int) {
	t := c.t
	t.Helper()
	for {
		majority, primary := c.load.acknowledged()
		if majority+primary >= changes {
			break
		}
		c.alive()
		if err := pass(ctx, askAgain); err != nil {
			t.Fatalf("only %d changes are written: %v", majority+primary, err)
		}
	}
	c.end()
	last, err := c.load.majority.server.CreateConsent(ctx, "the-last")
	if err != nil {
		t.Fatal(err)
	}
	c.consumed(ctx, []string{harness.ChangeID(last.Namespace, last.UUID, last.VersionID, last.LastUpdated)})
	for _, i := range c.installations {
		for instance, d := range i.running {
			if code, err := d.Stop(ctx); err != nil || code != 0 {
				t.Errorf("%s: %q has stopped with exit code %d (%v), want 0", i.mode.name, instance, code, err)
			}
		}
	}
	primary, err := c.set.PrimaryURI(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range c.installations {
		o := newOplog(i.site.Topics, c.databases)
		if err := o.read(ctx, primary, c.began); err != nil {
			t.Fatal(err)
		}
		c.compare(ctx, i, o)
	}
}

// compare judges an installation, and that the run was worth it.
func (c *cluster) compare(ctx context.Context, i *clustered, o *oplog) {
	t := c.t
	t.Helper()
	there := map[string]bool{}
	for _, e := range o.events {
		there[e.id] = true
	}
	lost, rolledBack := 0, 0
	for _, id := range c.load.kept {
		lost += number(!there[id])
	}
	for _, id := range c.load.unsure {
		rolledBack += number(!there[id])
	}
	if lost > 0 {
		t.Fatalf("%d changes that the majority had are not in the oplog: the test's own fault", lost)
	}
	if rolledBack == 0 {
		t.Error("no change was rolled back: this run proves too little")
	}
	if d := o.doubled(); len(d) > 0 {
		t.Fatalf("the oplog has two changes of one id: %v", d[:min(len(d), 5)])
	}
	// From the beginning, by a consumer that has seen none of the faults.
	records, err := harness.NewReader(t, i.site.Brokers, i.topics()...).End(ctx)
	if err != nil {
		t.Errorf("%s: %v", i.mode.name, err)
	}
	f := check(records, o.events, true)
	if len(f.faults) > 0 {
		t.Errorf("%s: of %d events\n%s", i.mode.name, len(o.events), f)
	}
	t.Logf("%s: %d changes in the oplog of the last primary, %d acknowledged ones rolled back; %d events, %d records in %d lives",
		i.mode.name, o.changes, rolledBack, len(o.events), len(records), len(i.daemons))
}
