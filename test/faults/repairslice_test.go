package faults_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// TestRepairOneSlice has one of three slices lose its history while the others go on:
// resources come and go, before the repair and during it, in that slice and in the
// others, and come again in another one. A history does not tell which slice a resource
// was in. In the last round another slice is paused: what it has yet to publish is
// told from what was lost.
func TestRepairOneSlice(t *testing.T) {
	t.Parallel()
	ctx := long(t)
	m := services.MongoDBForTest(t, services.MongoDBOptions{TestCommands: true})
	brokers := sharedBrokers(t)
	i := install(t, exactlyOnce(), harness.NewSite(t, m.URI, brokers))
	i.env["FHIR_CDC_STREAMS"] = "[{name: consents, resources: [Consent], slices: 3}]"
	i.env["FHIR_CDC_CHECKPOINT_IDLE_INTERVAL"] = "1s"
	i.env[harness.EnvControlToken] = harness.ControlToken
	client := connect(t, m.URI)
	gap := newGapLoad(client, i.site, seed(t, 0), scaled(420, soakFactor))
	gap.sliced = true
	gap.everything = false // its look-ups would be given the answer that is meant for the slice
	await := gap.begin(ctx, t)
	d := i.startReady(ctx)
	const rounds, paused = 3, "consents-1-of-3"
	for n := range rounds {
		lost := fmt.Sprintf("consents-%d-of-3", n+1)
		gap.open(6 * n)
		i.caughtUp(ctx, gap.load)
		order := func(what, stream string) {
			t.Helper()
			if err := d.Control(ctx, what, stream); err != nil {
				t.Fatal(err)
			}
		}
		logged := func(text string) {
			t.Helper()
			for strings.Count(d.Logs(), text) <= n {
				if err := pass(ctx, askAgain); err != nil {
					t.Fatalf("%s: the log does not tell %q: %v", lost, text, err)
				}
			}
		}
		order("pause", lost)
		if n == rounds-1 {
			order("pause", paused)
		}
		gap.open(6*n + 3)
		gap.reach(ctx, t)
		gap.more(ctx, t, fmt.Sprintf("gap-%d", n))
		// The slice has no requests to read back: both answers are for its own stream.
		if err := (gone{code: 286, reaches: true}).answer(ctx, client.Database("admin"), "fhir-cdc/"+i.site.Name); err != nil {
			t.Fatal(err)
		}
		gap.open(6*n + 5) // while it is repaired
		order("resume", lost)
		logged(logGap)
		gap.more(ctx, t, fmt.Sprintf("during-%d", n))
		logged(logRepaired)
	}
	if n := strings.Count(d.Logs(), logGap); n != rounds {
		t.Errorf("%d slices have lost their history, want %d: this run proves nothing", n, rounds)
	}
	if logs := d.Logs(); strings.Contains(logs, "waits for another slice") {
		t.Error("a repair has waited for a slice whose changes are in the oplog")
	}
	if err := d.Control(ctx, "resume", paused); err != nil {
		t.Fatal(err)
	}
	gap.openAll()
	await()
	gap.verify(ctx, i)
}
