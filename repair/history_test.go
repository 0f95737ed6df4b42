package repair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// clusterOf is the oplog of a replica set.
type clusterOf struct {
	ChangeStream
	set  string
	now  bson.Timestamp
	read []watcher.Span
}

func (c *clusterOf) Fingerprint() string { return "pipeline" }
func (c *clusterOf) History() string     { return c.set }

func (c *clusterOf) Window(context.Context) (watcher.Window, error) { return watcher.Window{}, nil }

func (c *clusterOf) Now(context.Context) (bson.Timestamp, error) { return c.now, nil }

func (c *clusterOf) Begin(_ context.Context, from watcher.From) (bson.Raw, error) {
	if watcher.Replaced(from.History, c.set) {
		return nil, &watcher.Error{Class: watcher.HistoryLost, Err: errors.New("another set")}
	}
	return bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X", c.now.T, c.now.I)}})
}

func (c *clusterOf) ReadSpan(_ context.Context, span watcher.Span, _ func(context.Context, watcher.Chunk) error) error {
	c.read = append(c.read, span)
	return nil
}

// emptyRepair repairs a stream of no collections in a cluster.
func emptyRepair(c *clusterOf) *Repairer {
	return &Repairer{
		Stream: "main", Mapper: mapper.New(mapper.Config{}), Scanner: replay.NewScanner(nil, replay.Options{}), Changes: c, Log: zap.NewNop(),
		Audit: func(context.Context, publisher.AuditAction, map[string]any) error { return nil },
	}
}

// taking is a publisher that takes positions.
type taking struct{ committed }

func (*taking) MaxEventBytes(string) int { return 1 << 20 }

// A repair goes on in the cluster that it began in only. In the next one, where its cursor
// tells nothing, it begins anew, with that cluster's token.
func TestRepairInAThirdCluster(t *testing.T) {
	ignore := func(daemon.RepairProgress) {}
	second := &clusterOf{set: "set b", now: bson.Timestamp{T: 200, I: 1}}
	p := &taking{}
	position := resumetoken.Position{Stream: "main", Token: bson.Raw{1}, ClusterTime: bson.Timestamp{T: 100}, WallTime: time.Unix(90, 0), History: "set a"}
	if _, err := emptyRepair(second).Repair(t.Context(), p, position, ignore); err != nil {
		t.Fatal(err)
	}
	position = p.positions[0]
	if position.Repair == nil || position.Repair.History != "set b" {
		t.Fatalf("a repair begins with %+v", position.Repair)
	}
	position.Repair.Step = scansCurrent
	if next, err := emptyRepair(second).Repair(t.Context(), p, position, ignore); err != nil || next.ClusterTime.T != 200 {
		t.Errorf("in the same cluster it goes on to %+v, error %v", next, err)
	}

	third := &clusterOf{set: "set c", now: bson.Timestamp{T: 150, I: 1}}
	_, err := emptyRepair(third).Repair(t.Context(), p, position, ignore)
	var known *watcher.Error
	if !errors.As(err, &known) || known.Class != watcher.HistoryLost {
		t.Errorf("in a third cluster it goes on: error %v", err)
	}
	given := p.positions[len(p.positions)-1]
	if given.Repair != nil || given.ClusterTime.T != 100 {
		t.Fatalf("it is not given up: %+v", given)
	}
	next, err := emptyRepair(third).Repair(t.Context(), p, given, ignore)
	if err != nil || next.ClusterTime.T != 150 || next.History != "set c" {
		t.Errorf("it ends at %+v, error %v", next, err)
	}
}

// What a repair reads of the oplog is that of its own token's, and of a slice's that of the
// slice's position.
func TestRepairReadsItsOwnHistory(t *testing.T) {
	a, c := sliceRepair(t), &clusterOf{now: bson.Timestamp{T: began + 5}}
	a.Whole, a.state.History = c, "set a"
	behind := at(began - 5)
	behind.History = "set b"
	if _, _, err := a.comesLive(t.Context(), []Sibling{{Stream: "hot-3-of-3", Index: 2, Position: behind}}); err != nil {
		t.Fatal(err)
	}
	if err := a.catchUp(t.Context(), bson.Timestamp{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, span := range c.read {
		got = append(got, span.History)
	}
	if !slices.Equal(got, []string{"set b", "set a"}) {
		t.Errorf("read of the histories %q", got)
	}
}

// The history is scanned when what was written before the token has it: at once after a long
// repair, and whatever the clock says no later than that takes.
func TestRepairAwaitsHistory(t *testing.T) {
	const patience = 30 * time.Second
	for name, test := range map[string]struct{ began, want time.Duration }{
		"a short repair":         {2 * time.Second, patience - 2*time.Second},
		"a long repair":          {time.Minute, 0},
		"a clock that went back": {-time.Hour, patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var waits []string
				now := time.Now()
				a := &attempt{Repairer: &Repairer{Patience: patience}, log: zap.NewNop(), report: func(p daemon.RepairProgress) { waits = append(waits, p.WaitsFor) }}
				a.state.Began = now.Add(-test.began)
				if _, err := a.awaitHistory(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := time.Since(now); got != test.want || a.waitsFor != "" || (test.want > 0) != (len(waits) == 1 && waits[0] != "") {
					t.Errorf("waited %v for %q, want %v", got, waits, test.want)
				}
			})
		})
	}
}
