package repair

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replay"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// began is when the repair of the slice under test began.
const began = 100

// sliceRepair is the repair of the middle one of three slices, which has come to the
// history.
func sliceRepair(t *testing.T) *attempt {
	t.Helper()
	client, err := mongo.Connect() // It connects to nothing that is not asked for.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	a := &attempt{
		Repairer: &Repairer{
			Slice:   watcher.Slice{Index: 1, Of: 3},
			History: []replay.Collection{{Documents: client.Database("fhir-history").Collection("Consent_4_0_0_History")}},
		},
		known: newKnown(), log: zap.NewNop(), report: func(daemon.RepairProgress) {},
	}
	a.state.ClusterTime = bson.Timestamp{T: began}
	a.state.Step = a.History[0].Name()
	return a
}

const (
	scansCurrent = "fhir.Consent_4_0_0"
	scansHistory = "fhir-history.Consent_4_0_0_History"
)

// at is the position of a slice that is not in a repair, inRepair of one that is.
func at(seconds uint32) resumetoken.Position {
	return resumetoken.Position{Token: bson.Raw{1}, ClusterTime: bson.Timestamp{T: seconds}}
}

func inRepair(since uint32, step string) resumetoken.Position {
	p := at(began - 50)
	p.Repair = &resumetoken.Repair{ClusterTime: bson.Timestamp{T: since}, Step: step}
	return p
}

func paused(p resumetoken.Position) resumetoken.Position {
	p.Paused = true
	return p
}

func TestRepairAwaits(t *testing.T) {
	for name, test := range map[string]struct {
		index    int
		position resumetoken.Position
		// want is in the reason; "" for none.
		want string
	}{
		"live and beyond":                     {0, at(began + 1), ""},
		"live and there":                      {2, at(began), ""},
		"live and behind":                     {2, at(began - 1), ""},
		"paused beyond":                       {0, paused(at(began)), ""},
		"paused behind":                       {0, paused(at(began - 1)), ""},
		"never begun":                         {0, resumetoken.Position{}, "has not begun"},
		"an earlier repair":                   {2, inRepair(began-1, scansHistory), "begun before this one"},
		"an earlier repair that is paused":    {2, paused(inRepair(began-1, scansHistory)), "resume it"},
		"at the same time, the lower number":  {0, inRepair(began, scansHistory), "begun before this one"},
		"at the same time, the higher number": {2, inRepair(began, scansHistory), ""},
		"a later repair":                      {0, inRepair(began+1, scansHistory), ""},
		"a later repair that has just begun":  {0, inRepair(began+1, ""), "still scans current documents"},
		"a later repair in current documents": {2, inRepair(began+1, scansCurrent), "still scans current documents"},
		"the same, paused":                    {2, paused(inRepair(began+1, scansCurrent)), "resume it"},
	} {
		t.Run(name, func(t *testing.T) {
			why := sliceRepair(t).awaits(Sibling{Stream: "s", Index: test.index, Position: test.position})
			if (why == "") != (test.want == "") || !strings.Contains(why, test.want) {
				t.Errorf("it is waited for because it %q, want %q", why, test.want)
			}
		})
	}
}

// However three slices stand in their repairs, one can go on: none waits for one that
// waits for it.
func TestRepairsNeverWaitInACircle(t *testing.T) {
	steps := []string{scansCurrent, scansHistory}
	for n := range 6 * 6 * 6 {
		var slices []Sibling
		for i, form := range []int{n % 6, n / 6 % 6, n / 36} {
			slices = append(slices, Sibling{Stream: "s", Index: i, Position: inRepair(began+uint32(form/2), steps[form%2])})
		}
		free := 0
		for i, s := range slices {
			a := sliceRepair(t)
			a.Slice.Index, a.state = i, *s.Position.Repair
			waits := false
			for j, other := range slices {
				waits = waits || j != i && a.awaits(other) != ""
			}
			// Scans of current documents go on whatever the others do.
			if s.Position.Repair.Step == scansCurrent || !waits {
				free++
			}
		}
		if free == 0 {
			t.Errorf("all wait for each other: %+v", slices)
		}
	}
}

// committed keeps what a repair has committed.
type committed struct {
	daemon.Publisher
	positions []resumetoken.Position
}

func (c *committed) Commit(_ context.Context, b *publisher.Batch) error {
	c.positions = append(c.positions, b.Position)
	return nil
}

// A repair first tells the others that it has come to the history, then says whom it
// waits for, and reads the topics back only when it need not wait any more; once.
func TestRepairTakesItsTurn(t *testing.T) {
	p, looks, order := &committed{}, 0, []string(nil)
	oplog := &oplogOfAll{lost: true}
	core, logs := observer.New(zap.WarnLevel)
	a := sliceRepair(t)
	a.publisher, a.log, a.Whole = p, zap.New(core), oplog
	var reports []string
	a.report = func(r daemon.RepairProgress) { reports = append(reports, r.WaitsFor) }
	a.Siblings = func(context.Context) ([]Sibling, error) {
		if len(p.positions) != 1 || p.positions[0].Repair.Step != scansHistory {
			t.Errorf("before it looks at the others it has committed %+v", p.positions)
		}
		order = append(order, "look")
		switch looks++; looks {
		case 1:
			return nil, errors.New("the brokers are away")
		case 2:
			return []Sibling{{Stream: "hot-1-of-3", Index: 0, Position: at(began)}, {Stream: "hot-3-of-3", Index: 2, Position: paused(at(1))}}, nil
		}
		return []Sibling{{Stream: "hot-3-of-3", Index: 2, Position: at(began)}}, nil
	}
	read := time.Now()
	a.since, a.readAt, a.Tolerance = read.Add(-time.Hour), read, time.Minute
	a.IDsSince = func(_ context.Context, since time.Time, _ func(string)) error {
		order = append(order, "read back")
		if want := read.Add(-clocks * time.Minute); !since.Equal(want) {
			t.Errorf("read back since %v, want what has come since %v", since, want)
		}
		return nil
	}
	for range 2 {
		if err := a.takeTurn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(order, ", "); got != "look, look, look, read back" {
		t.Errorf("it did: %s", got)
	}
	const want = "hot-3-of-3, which has lost its history and is not in a repair yet: see that a daemon carries it, and resume it, for it is paused"
	if len(reports) != 1 || reports[0] != want {
		t.Errorf("it reports that it waits for %q", reports)
	}
	warned := logs.All()
	if len(warned) != 1 || warned[0].ContextMap()["waitsFor"] != "hot-3-of-3" {
		t.Errorf("it warns %+v", warned)
	}
}

// oplogOfAll is a change stream of all slices.
type oplogOfAll struct {
	ChangeStream
	changes []bson.Raw
	// lost says that it does not reach back far enough.
	lost bool
	read []watcher.Span
}

func (o *oplogOfAll) ReadSpan(ctx context.Context, span watcher.Span, each func(context.Context, watcher.Chunk) error) error {
	o.read = append(o.read, span)
	if o.lost {
		return &watcher.Error{Class: watcher.HistoryLost, Err: errors.New("the oplog does not reach back")}
	}
	return each(ctx, watcher.Chunk{Changes: o.changes})
}

// What a slice that is behind has yet to publish is known before it has: its own changes,
// and no other's, for those may be lost.
func TestRepairLeavesToOthersWhatComesLive(t *testing.T) {
	a := sliceRepair(t)
	a.Mapper = mapper.New(mapper.Config{Database: "fhir", Topics: map[mapper.Kind]string{mapper.KindChange: "business.events"}, Resources: []string{"Consent"}})
	oplog, behind := &oplogOfAll{}, Sibling{Stream: "hot-3-of-3", Index: 2, Position: paused(at(began - 5))}
	a.Whole = oplog
	const changes = 300
	own := 0
	for n := range changes {
		change, err := bson.Marshal(bson.D{
			{Key: "operationType", Value: "insert"},
			{Key: "ns", Value: bson.D{{Key: "db", Value: "fhir"}, {Key: "coll", Value: "Consent_4_0_0"}}},
			{Key: "documentKey", Value: bson.D{{Key: "_id", Value: bson.NewObjectID()}}},
			{Key: "fullDocument", Value: bson.D{
				{Key: "id", Value: fmt.Sprint(n)},
				{Key: "_uuid", Value: uuid.NewString()},
				{Key: "meta", Value: bson.D{{Key: "versionId", Value: "1"}, {Key: "lastUpdated", Value: time.Now()}}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		oplog.changes = append(oplog.changes, change)
		if holds, _ := (watcher.Slice{Index: 2, Of: 3}).Holds(change); holds {
			own++
		}
	}
	stream, why, err := a.comesLive(t.Context(), []Sibling{{Stream: "hot-1-of-3", Position: at(began)}, behind})
	if err != nil || stream != "" {
		t.Fatalf("it waits for %q, because it %q; error %v", stream, why, err)
	}
	if a.known.count != own || own == 0 || own == changes {
		t.Errorf("%d events are known, %d of %d changes are that slice's", a.known.count, own, changes)
	}
	want := []watcher.Span{{From: bson.Timestamp{T: began - 5}, UntilTime: replay.Before(bson.Timestamp{T: began})}}
	if diff := cmp.Diff(want, oplog.read); diff != "" {
		t.Errorf("read of the oplog (-want +got):\n%s", diff)
	}
}

// Where nothing is promised about repeats, nobody is waited for.
func TestRepairWithoutTurns(t *testing.T) {
	reads := 0
	a := sliceRepair(t)
	a.IDsSince = func(context.Context, time.Time, func(string)) error { reads++; return nil }
	if err := a.takeTurn(t.Context()); err != nil || reads != 1 {
		t.Errorf("without a look at the others: read back %d times, error %v", reads, err)
	}
	b := sliceRepair(t)
	b.unread = true
	b.Siblings = func(context.Context) ([]Sibling, error) { t.Error("it waits"); return nil, nil }
	if err := b.takeTurn(t.Context()); err != nil {
		t.Error(err)
	}
}
