package faults_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

const (
	// logGoesOn says that a repair goes on where another process was, logAnew that the
	// oplog has not lasted for it.
	logGoesOn, logAnew = "repair of lost history goes on", "which begins anew"
	// repairLives is how often a repair is broken off at most.
	repairLives = 4
)

// repairForm is a way in which a repair is carried out and broken off.
type repairForm struct {
	mode    mode
	streams string
	// replicas has a second process stand by, which takes the repair over.
	replicas bool
	// sliced says that the streams may be slices.
	sliced bool
	// between changes something after life n, which has been broken off in the middle.
	between func(ctx context.Context, t *testing.T, r *repairRun, n int)
	// anew says that the repair has to begin anew.
	anew bool
}

// repairRun is a repair that is broken off again and again.
type repairRun struct {
	*installation
	gap *gapLoad
	// lost is when the daemon last read the oplog.
	lost time.Time
}

func repairForms() map[string]repairForm {
	const sliced = "[{name: consents, resources: [Consent], slices: 3}]"
	// layouts follow each other in the middle of repairs.
	layouts := []string{sliced, "[{name: jobs, resources: [ExportStatus]}]", "", "[{name: all, resources: [Consent, ExportStatus], slices: 2}]"}
	return map[string]repairForm{
		"at_least_once/mongodb": {mode: atLeastOnce("mongodb")},
		"at_least_once/kafka":   {mode: atLeastOnce("kafka"), streams: "[{name: consents, resources: [Consent]}]"},
		"slices":                {mode: exactlyOnce(), streams: sliced, sliced: true},
		"another replica":       {mode: exactlyOnce(), replicas: true},
		"streams change": {mode: exactlyOnce(), sliced: true, between: func(ctx context.Context, t *testing.T, r *repairRun, n int) {
			t.Helper()
			r.env["FHIR_CDC_STREAMS"] = layouts[n%len(layouts)]
			// Of this the collections do not tell: it is in the oplog.
			r.gap.statuses(ctx, t, fmt.Sprintf("since-%d", n))
		}},
		"oplog too short": {mode: exactlyOnce(), anew: true, between: func(ctx context.Context, t *testing.T, r *repairRun, n int) {
			t.Helper()
			if n > 0 {
				return
			}
			r.gap.open(14)
			r.gap.reach(ctx, t)
			r.gap.more(ctx, t, "gap-of-the-repair")
			rollOver(ctx, t, r.gap.client, r.site.Databases.Main, time.Now())
		}},
	}
}

// TestRepairForms loses history for real and breaks the repair off, in each way of
// running the daemon and with each thing that may change meanwhile.
func TestRepairForms(t *testing.T) {
	for name, form := range repairForms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			form.run(long(t), t, scaled(3000, soakFactor))
		})
	}
}

func (f *repairForm) run(ctx context.Context, t *testing.T, consents int) {
	t.Helper()
	m := services.MongoDBForTest(t, services.MongoDBOptions{OplogMB: smallOplog, Args: []string{"--syncdelay", "1"}})
	brokers := sharedBrokers(t)
	i := install(t, f.mode, harness.NewSite(t, m.URI, brokers))
	i.env["FHIR_CDC_STREAMS"] = f.streams
	if f.replicas {
		i.env["FHIR_CDC_REPLICAS"], i.env["FHIR_CDC_SESSION_TIMEOUT"] = "kafka", sessionTimeout.String()
	}
	r := &repairRun{installation: i, gap: newGapLoad(connect(t, m.URI), i.site, seed(t, 0), 420)}
	r.gap.sliced = f.sliced
	await := r.gap.begin(ctx, t)
	d := r.life(f, "first")
	if err := d.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	r.gap.open(5)
	r.gap.reach(ctx, t)
	i.caughtUp(ctx, r.gap.load)
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	r.lost = time.Now()
	r.gap.open(10)
	r.gap.reach(ctx, t)
	r.gap.bulk(ctx, t, consents)
	r.gap.more(ctx, t, "gap")
	rollOver(ctx, t, r.gap.client, i.site.Databases.Main, r.lost)
	logs := r.breakOff(ctx, t, f)
	r.gap.openAll()
	last := r.life(f, "last")
	await()
	r.gap.verify(ctx, i)
	// Each life that was broken off may have ended before its repair went on: on a busy machine,
	// or after a stream that has lost nothing has resumed. The last one goes on then.
	logs += last.Logs()
	if f.between == nil && !strings.Contains(logs, logGoesOn) {
		t.Error("no repair has gone on where it had been")
	}
	if f.anew && !strings.Contains(logs+last.Logs(), logAnew) {
		t.Error("the oplog has lasted for the repair: this run proves nothing")
	}
}

// life begins the next life, as a replica of its own where there are some.
func (r *repairRun) life(f *repairForm, instance string) *harness.Daemon {
	if f.replicas {
		r.env["FHIR_CDC_INSTANCE"] = instance
	}
	return r.start()
}

// breakOff ends the daemon in the middle of the repair, several times, and returns what
// it logged. The repair may be over then, or not.
func (r *repairRun) breakOff(ctx context.Context, t *testing.T, f *repairForm) string {
	t.Helper()
	random := newRandom(r.gap.seed)
	reader := harness.NewReader(t, r.site.Brokers, r.topics()...)
	var logs strings.Builder
	broken := 0
	for n := range repairLives {
		d := r.life(f, fmt.Sprintf("life-%d", n))
		before := len(reader.Records())
		if n == 0 {
			if err := d.WaitForLog(ctx, logGap); err != nil {
				t.Fatal(err)
			}
			if _, err := reader.Until(ctx, func(r []harness.Record) bool { return len(r) > before+200 }); err != nil {
				t.Fatal(err)
			}
		} else if err := d.WaitForLog(ctx, logGoesOn, logGap, logRepaired, harness.LogResumes); err != nil {
			t.Fatal(err)
		}
		if err := pass(ctx, between(random, 0, 200*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := r.end(ctx, d, f, n); err != nil {
			t.Fatal(err)
		}
		logs.WriteString(d.Logs())
		if n == 0 && strings.Contains(d.Logs(), logRepaired) && f.streams == "" {
			t.Fatal("the repair was over before the first end: this run proves nothing")
		}
		broken++
		if f.between != nil {
			f.between(ctx, t, r, n)
		}
	}
	all := logs.String()
	t.Logf("broken off %d times; it went on %d times where it had been, began %d times", broken, strings.Count(all, logGoesOn), strings.Count(all, logGap))
	return all
}

// end ends a life: by a kill, with replicas also by a stop, while another one is
// there to take over.
func (r *repairRun) end(ctx context.Context, d *harness.Daemon, f *repairForm, n int) error {
	if f.replicas && n%2 == 0 {
		_, err := d.Stop(ctx)
		return err
	}
	return d.Kill()
}
