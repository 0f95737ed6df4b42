package faults_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// The daemon's exit codes for what starting again does not mend.
const (
	exitFailure = 1
	exitUsage   = 2
)

// TestFatalErrors lets MongoDB answer with each of the errors that an operator has to
// see: the daemon ends and says what to do, and the next one goes on where it was.
func TestFatalErrors(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	i := install(t, exactlyOnce(), sharedSite(t))
	i.env["FHIR_CDC_REPLICAS"] = "none"
	// Without the reading back at the start, the stream's is the only aggregate.
	i.env["FHIR_CDC_FACTS_ACCESSED_EVERYTHING_WINDOW"] = "0s"
	l := i.load(t, seed(t, 0), math.MaxInt)
	l.keys, l.rate = 200, 100
	await := l.begin(ctx, t)
	admin := connect(t, i.site.MongoURI).Database("admin")
	random := newRandom(l.seed)
	for _, fatal := range []struct {
		code, exit int
		hint       string
	}{
		{13, exitUsage, "check the MongoDB user name"},
		{18, exitUsage, "check the MongoDB user name"},
		{8000, exitUsage, "check the MongoDB user name"},
		{40573, exitUsage, "need a replica set"},
		{10334, exitFailure, "larger than 16 MB"},
		{40324, exitUsage, "MongoDB 6.0 or newer"},
		{168, exitUsage, "MongoDB 6.0 or newer"},
		{31325, exitUsage, "MongoDB 6.0 or newer"},
		{40415, exitUsage, "MongoDB 6.0 or newer"},
	} {
		for _, command := range []string{"getMore", "aggregate"} {
			what := fmt.Sprintf("code %d to %s", fatal.code, command)
			d := i.start()
			if command == "getMore" {
				if err := d.WaitReady(ctx); err != nil {
					t.Fatal(err)
				}
			}
			code, err := i.end(ctx, d, refusal{[]string{command}, 1}, command == "aggregate", fatal.code, admin, random)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if code != fatal.exit || !strings.Contains(d.Logs(), fatal.hint) {
				t.Errorf("%s: exit code %d, want %d and %q in the log", what, code, fatal.exit, fatal.hint)
			}
		}
	}
	i.start()
	l.finish()
	await()
	i.verify(ctx, l)
}

// end has MongoDB answer once with an error and gives the code that the daemon ends
// with. A stream that is open opens another cursor only after an error that passes.
func (i *installation) end(ctx context.Context, d *harness.Daemon, refused refusal, reopen bool, code int, admin *mongo.Database, random *rand.Rand) (int, error) {
	app := "fhir-cdc/" + i.site.Name
	for {
		hits, err := refused.refuse(ctx, admin, app, code, random)
		if err != nil {
			return 0, err
		}
		if hits > 0 {
			return d.Wait(ctx)
		}
		if reopen {
			again := refusal{[]string{"getMore"}, 1}
			if _, err := again.refuse(ctx, admin, app, failures()[1], random); err != nil {
				return 0, err
			}
		}
	}
}
