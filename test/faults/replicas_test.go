//go:build unix

package faults_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// sessionTimeout is the shortest that a broker takes.
const sessionTimeout = 6 * time.Second

const (
	// longestTakeOver and longestHandOver bound the time without an owner: after a kill
	// each, after stops the median. anyHandOver bounds every single one, which on a
	// machine that has other things to do takes longer now and then.
	longestTakeOver, longestHandOver = 15 * time.Second, 2 * time.Second
	anyHandOver                      = 10 * time.Second
	stops                            = 5
)

// TestReplicas ends, kills and freezes the replica that carries the stream, while
// changes are written; another one takes over, the frozen one too when its turn
// comes again.
func TestReplicas(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI, brokers := ownMongoDB(t), sharedBrokers(t)
	m := exactlyOnce()
	m.env["FHIR_CDC_REPLICAS"] = "kafka"
	m.env["FHIR_CDC_SESSION_TIMEOUT"] = sessionTimeout.String()
	m.env["FHIR_CDC_INSTANCE"] = "a"
	// With one to hand out, a stand-by stays one until the owner is gone.
	m.env["FHIR_CDC_TOPICS_POSITION_PARTITIONS"] = "1"
	p := startPair(ctx, t, mongoURI, brokers, m)
	i := p.installations[0]
	owner := i.daemons[0]
	p.caughtUp(ctx)
	// next is a further replica. It waits until the owner is gone.
	next := func(name string) *harness.Daemon {
		i.env["FHIR_CDC_INSTANCE"] = name
		d := i.start()
		if err := d.WaitForLog(ctx, "joined the replicas"); err != nil {
			t.Fatal(err)
		}
		return d
	}
	// takenOver is how long after begin the next one carries the stream.
	takenOver := func(what string, begin time.Time, by *harness.Daemon) time.Duration {
		if err := by.WaitForLog(ctx, harness.LogResumes); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		took := time.Since(begin).Round(time.Millisecond)
		t.Logf("%s: taken over after %v", what, took)
		p.caughtUp(ctx)
		return took
	}

	var handOvers []time.Duration
	for n := range scaled(stops, soakFactor) {
		b, begin := next(fmt.Sprintf("stopped-%d", n)), time.Now()
		if code, err := owner.Stop(ctx); err != nil || code != 0 {
			t.Fatalf("stopped with exit code %d (%v), want 0", code, err)
		}
		handOvers = append(handOvers, takenOver("the owner is stopped", begin, b))
		owner = b
	}
	slices.Sort(handOvers)
	median, longest := handOvers[len(handOvers)/2], handOvers[len(handOvers)-1]
	t.Logf("hand-overs: median %v of %v", median, handOvers)
	if median > longestHandOver || longest > anyHandOver {
		t.Errorf("hand-overs have taken %v in the median and %v at most, may take %v and %v", median, longest, longestHandOver, anyHandOver)
	}

	for n := range scaled(1, soakFactor) {
		b, begin := next(fmt.Sprintf("killed-%d", n)), time.Now()
		if err := owner.Kill(); err != nil {
			t.Fatal(err)
		}
		if took := takenOver("the owner is killed", begin, b); took > longestTakeOver {
			t.Errorf("that may take %v", longestTakeOver)
		}
		owner = b
	}

	c, d := owner, next("awake")
	begin := time.Now()
	if err := syscall.Kill(c.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	takenOver("the owner is frozen", begin, d)
	if soaking() {
		if err := pass(ctx, time.Until(begin.Add(time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	lives := strings.Count(c.Logs(), harness.LogResumes)
	if err := syscall.Kill(c.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.caughtUp(ctx)
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	for strings.Count(c.Logs(), harness.LogResumes) == lives {
		if err := pass(ctx, askAgain); err != nil {
			t.Fatalf("the replica that was frozen has not taken over again: %v", err)
		}
	}
	p.caughtUp(ctx)
	i.daemons = append(i.daemons, c) // the one to stop
	p.finish(ctx)
}

// TestTwins runs two daemons of one name and, by mistake, of one instance, as two of one
// host are that are not told apart. The one that the group gives up says what to do.
func TestTwins(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI, brokers := ownMongoDB(t), sharedBrokers(t)
	m := exactlyOnce()
	m.env["FHIR_CDC_REPLICAS"] = "kafka"
	m.env["FHIR_CDC_SESSION_TIMEOUT"] = sessionTimeout.String()
	m.env["FHIR_CDC_INSTANCE"] = "twin"
	p := startPair(ctx, t, mongoURI, brokers, m)
	i := p.installations[0]
	p.caughtUp(ctx)
	first := i.daemons[0]
	second := i.startReady(ctx) // it takes the stream
	told := func() bool {
		_, status, err := probe(ctx, first, "/status")
		if err != nil || !strings.Contains(status, `another process has the instance \"twin\". Give each process its own FHIR_CDC_INSTANCE`) {
			return false
		}
		code, ready, err := probe(ctx, first, "/readyz")
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(ready, "FENCED_INSTANCE_ID")
	}
	for !told() {
		if err := pass(ctx, askAgain); err != nil {
			t.Fatalf("the first does not say that the other has its instance: %v\n%s", err, first.Logs())
		}
	}
	// Kafka is well, and no metric says otherwise.
	if _, text, err := probe(ctx, first, "/metrics"); err != nil ||
		!strings.Contains(text, "\nfhir_cdc_group_away_seconds 0\n") || strings.Contains(text, "\nfhir_cdc_group_out_seconds 0\n") {
		t.Errorf("/metrics of the first (%v): %s", err, text)
	}
	for range scaled(3, soakFactor) {
		if err := pass(ctx, sessionTimeout/2); err != nil {
			t.Fatal(err)
		}
		p.caughtUp(ctx)
	}
	t.Logf("the stream was taken %d times by the one and %d times by the other",
		strings.Count(first.Logs(), harness.LogResumes), strings.Count(second.Logs(), harness.LogResumes))
	if n := strings.Count(first.Logs(), "FENCED_INSTANCE_ID"); n != 1 {
		t.Errorf("the log of the first says %d times that another has its instance, want once", n)
	}
	admin := harness.Admin(t, brokers)
	member := func() string {
		described, err := admin.DescribeGroups(ctx, i.site.Name)
		if err != nil || len(described[i.site.Name].Members) != 1 {
			t.Fatalf("the group cannot be described, or has not one member: %v, %+v", err, described[i.site.Name].Members)
		}
		return described[i.site.Name].Members[0].MemberID
	}
	before := member()
	lives := strings.Count(second.Logs(), harness.LogResumes)
	if code, err := first.Stop(ctx); err != nil || (code != 0 && code != exitFenced) {
		t.Errorf("the first has ended with code %d (%v), want 0 or %d", code, err, exitFenced)
	}
	// Twice as long as the second could go on without noticing that it is no member.
	if err := pass(ctx, 2*sessionTimeout); err != nil {
		t.Fatal(err)
	}
	p.caughtUp(ctx)
	if after := member(); after != before {
		t.Errorf("the group had the member %s before the first was stopped, and has %s", before, after)
	}
	if strings.Contains(second.Logs(), "streams lost") || strings.Count(second.Logs(), harness.LogResumes) != lives {
		t.Errorf("the stop of the first has interrupted the second:\n%s", second.Logs())
	}
	p.finish(ctx)
}
