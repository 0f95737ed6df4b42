package faults_test

import (
	"context"
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// gapLoad is a load in parts, all of whose versions have a history at once: what is
// written in a gap can all be repaired.
type gapLoad struct {
	*load
	gate *gate
	part int
	// limit is how many changes of the load may be written.
	limit  int
	server *fhirserver.Server
	// extra is what was written beside the load.
	extra []version
	// sliced says that the streams may be slices: a resource that is deleted and comes
	// again may lie in another slice, so its two lives may overtake each other.
	sliced bool
}

func newGapLoad(client *mongo.Client, site harness.Site, seed uint64, changes int) *gapLoad {
	server := fhirserver.New(client, fhirserver.Options{Databases: site.Databases})
	l := newLoad(client, site.Databases, seed, changes, 1000)
	l.servers[historyNone] = server
	l.everything, l.noExports = true, true
	g := &gapLoad{load: l, gate: newGate(0), part: changes / 21, server: server}
	l.gate = g.gate.wait
	return g
}

// open lets the load write up to the end of a part.
func (g *gapLoad) open(part int) {
	g.limit = min((part+1)*g.part, g.changes)
	g.gate.raise(g.limit)
}

// openAll lets the load write all that is left.
func (g *gapLoad) openAll() {
	g.limit = g.changes
	g.gate.raise(g.limit)
}

// reach waits until all is written that may be.
func (g *gapLoad) reach(ctx context.Context, t *testing.T) {
	t.Helper()
	for g.count() < g.limit {
		if err := pass(ctx, askAgain); err != nil {
			t.Fatalf("%d of %d changes are written: %v", g.count(), g.limit, err)
		}
	}
}

// more writes what a load does not: resources that come and go, one that comes
// again, and jobs.
func (g *gapLoad) more(ctx context.Context, t *testing.T, prefix string) {
	t.Helper()
	note := func(r fhirserver.Resource, err error) fhirserver.Resource {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		g.extra = append(g.extra, version{Resource: r, history: historyNone})
		return r
	}
	for n := range 10 {
		id := fmt.Sprintf("%s-%d", prefix, n)
		r := note(g.server.CreateConsent(ctx, id))
		r = note(g.server.ReplaceConsent(ctx, r))
		if err := g.server.Delete(ctx, r); err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			note(g.server.CreateConsent(ctx, id))
			g.extra[len(g.extra)-1].overtakes = g.sliced
		}
		note(g.server.CreateExportStatus(ctx, "job-"+id)) // an id of its own: order holds for a resource
	}
}

// statuses writes jobs with all of their statuses, of which a collection only holds
// the last.
func (g *gapLoad) statuses(ctx context.Context, t *testing.T, prefix string) {
	t.Helper()
	for n := range 5 {
		job, err := g.server.CreateExportStatus(ctx, fmt.Sprintf("statuses-%s-%d", prefix, n))
		for _, status := range []string{"in-progress", "completed"} {
			if err != nil {
				t.Fatal(err)
			}
			g.extra = append(g.extra, version{Resource: job, history: historyNone})
			job, err = g.server.SetStatus(ctx, job, status)
		}
		if err != nil {
			t.Fatal(err)
		}
		g.extra = append(g.extra, version{Resource: job, history: historyNone})
	}
}

// bulk writes many Consents of two versions.
func (g *gapLoad) bulk(ctx context.Context, t *testing.T, keys int) {
	t.Helper()
	written, err := g.server.BulkConsents(ctx, fhirserver.Bulk{Prefix: "bulk", Keys: keys, Versions: 2, History: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range written {
		g.extra = append(g.extra, version{Resource: r, history: historyNone})
	}
}

// verify judges the records of all that was written.
func (g *gapLoad) verify(ctx context.Context, i *installation) {
	i.t.Helper()
	g.mu.Lock()
	g.versions = append(g.versions, g.extra...)
	g.mu.Unlock()
	i.verify(ctx, g.load)
}
