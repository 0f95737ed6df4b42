package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// failures are what a server may answer to a daemon that is in the right: all of
// them are mended by asking again. 0 closes the connection instead.
func failures() []int {
	return []int{
		0,
		1,     // InternalError
		6,     // HostUnreachable
		7,     // HostNotFound
		8,     // UnknownError
		43,    // CursorNotFound
		50,    // MaxTimeMSExpired
		63,    // StaleShardVersion
		89,    // NetworkTimeout
		91,    // ShutdownInProgress
		133,   // FailedToSatisfyReadPreference
		136,   // CappedPositionLost
		175,   // QueryPlanKilled
		189,   // PrimarySteppedDown
		222,   // CloseChangeStream
		234,   // RetryChangeStream
		237,   // CursorKilled
		262,   // ExceededTimeLimit
		9001,  // SocketException
		10107, // NotWritablePrimary
		11600, // InterruptedAtShutdown
		11601, // Interrupted
		11602, // InterruptedDueToReplStateChange
		13388, // StaleConfig
		13435, // NotPrimaryNoSecondaryOk
		13436, // NotPrimaryOrSecondary
		77777, // not known to anybody
	}
}

// reconnects is how often the stream of each daemon has to break at least.
const reconnects = 100

// TestCursors lets MongoDB answer the daemons with each of the errors and kills their
// cursors, while changes are written. In the end no cursor is left behind.
func TestCursors(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI, brokers := ownMongoDB(t), sharedBrokers(t)
	// At least once is only more than exactly once when something is repeated
	// after a failure; a stream that is reopened in place repeats nothing.
	p := newPair(t, mongoURI, brokers, exactlyOnce().withFacts(), atLeastOnce("mongodb"))
	for _, i := range p.installations {
		i.env["FHIR_CDC_RETRY_MIN_BACKOFF"], i.env["FHIR_CDC_RETRY_MAX_BACKOFF"] = "10ms", "50ms"
		i.env["FHIR_CDC_CHECKPOINT_INTERVAL"] = "20ms"
	}
	p.start(ctx, pairRate)
	alive, cancel := whileAlive(ctx, p.daemons()...)
	defer cancel()
	p.caughtUp(alive)
	admin := connect(t, mongoURI).Database("admin")
	random := newRandom(p.load.seed)
	var killed, refused int
	for range scaled(1, soakFactor) {
		codes := failures()
		for n, k := range random.Perm(len(codes)) {
			for _, i := range p.installations {
				for _, f := range []refusal{
					{[]string{"getMore"}, 2},
					{[]string{"getMore", "aggregate"}, 3}, // a reading, then two openings
					{[]string{"find", "update", "findAndModify"}, 1 + random.IntN(3)},
				} {
					hits, err := f.refuse(alive, admin, "fhir-cdc/"+i.site.Name, codes[k], random)
					if err != nil {
						t.Fatal(err)
					}
					refused += hits
				}
				if n%3 > 0 {
					continue
				}
				hits, err := killCursors(alive, admin, i.comment())
				if err != nil {
					t.Fatal(err)
				}
				killed += hits
			}
		}
	}
	p.caughtUp(alive)
	for k, d := range p.daemons() {
		i := p.installations[k]
		broke := func() int { return strings.Count(d.Logs(), "change stream broke") }
		for broke() < reconnects { // on a busy machine some refusals come to nothing
			f := refusal{[]string{"getMore"}, 2}
			hits, err := f.refuse(alive, admin, "fhir-cdc/"+i.site.Name, failures()[1], random)
			if err != nil {
				t.Fatal(err)
			}
			refused += hits
		}
		open, err := i.openCursors(alive, admin)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: the stream broke %d times; %d cursor is open", i.mode.name, broke(), open)
	}
	t.Logf("%d commands were refused and %d cursors killed", refused, killed)
	if killed < 1 {
		t.Error("no cursor was killed")
	}
	if err := context.Cause(alive); err != nil {
		t.Fatal(err)
	}
	p.finish(ctx)
}

// comment is that of the cursors of the installation's stream.
func (i *installation) comment() string { return "fhir-cdc/" + i.site.Name + "/main" }

// openCursors waits until the server holds one cursor for the daemon's one stream, and
// returns how many it holds.
func (i *installation) openCursors(ctx context.Context, admin *mongo.Database) (int, error) {
	for {
		cursors, err := listCursors(ctx, admin, i.comment())
		if err != nil {
			return 0, err
		}
		open := map[int64]bool{}
		for _, c := range cursors {
			open[c.Cursor.ID] = true
		}
		if len(open) == 1 {
			return 1, nil
		}
		if err := pass(ctx, askAgain); err != nil {
			return 0, fmt.Errorf("%d cursors are open of one stream: %w", len(open), err)
		}
	}
}

// refusal is which of a client's commands are refused, and how many of them.
type refusal struct {
	commands []string
	times    int
}

// refuse has the server answer the next commands of a client with an error, and waits
// until they have come or for a second. It returns how many came.
func (f refusal) refuse(ctx context.Context, admin *mongo.Database, client string, code int, random *rand.Rand) (int, error) {
	data := bson.D{
		{Key: "failCommands", Value: f.commands},
		{Key: "appName", Value: client},
	}
	if code == 0 {
		data = append(data, bson.E{Key: "closeConnection", Value: true})
	} else {
		data = append(data, bson.E{Key: "errorCode", Value: code})
	}
	configure := func(mode any) (int, error) {
		var reply struct {
			Count int `bson:"count"`
		}
		d := bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}, {Key: "data", Value: data}}
		if err := admin.RunCommand(ctx, d).Decode(&reply); err != nil {
			return 0, fmt.Errorf("set the failpoint: %w", err)
		}
		return reply.Count, nil
	}
	before, err := configure("off")
	if err != nil {
		return 0, err
	}
	if _, err := configure(bson.D{{Key: "times", Value: f.times}}); err != nil {
		return 0, err
	}
	begin := time.Now()
	for {
		if err := pass(ctx, between(random, 5*time.Millisecond, 30*time.Millisecond)); err != nil {
			return 0, err
		}
		var state struct {
			Failpoint struct {
				Mode  int `bson:"mode"`
				Times int `bson:"timesEntered"`
			} `bson:"failpoint.failCommand"`
		}
		err := admin.RunCommand(ctx, bson.D{{Key: "getParameter", Value: 1}, {Key: "failpoint.failCommand", Value: 1}}).Decode(&state)
		if err != nil {
			return 0, fmt.Errorf("look at the failpoint: %w", err)
		}
		hits := state.Failpoint.Times - before
		if hits >= f.times || state.Failpoint.Mode == 0 || time.Since(begin) > time.Second {
			after, err := configure("off")
			return after - before, err
		}
	}
}

// openCursor is one that the server holds.
type openCursor struct {
	Namespace string `bson:"ns"`
	// Type is idleCursor, or that of the operation that uses it now.
	Type   string `bson:"type"`
	Cursor struct {
		ID    int64 `bson:"cursorId"`
		Given int   `bson:"nDocsReturned"`
	} `bson:"cursor"`
}

// listCursors are the change streams with a comment.
func listCursors(ctx context.Context, admin *mongo.Database, comment string) ([]openCursor, error) {
	cursors, err := admin.Aggregate(ctx, mongo.Pipeline{
		{{Key: "$currentOp", Value: bson.D{{Key: "idleCursors", Value: true}, {Key: "allUsers", Value: true}}}},
		{{Key: "$match", Value: bson.D{{Key: "cursor.originatingCommand.comment", Value: comment}}}},
	})
	if err != nil {
		return nil, fmt.Errorf("list cursors: %w", err)
	}
	var found []openCursor
	if err := cursors.All(ctx, &found); err != nil {
		return nil, fmt.Errorf("list cursors: %w", err)
	}
	return found, nil
}

// killCursors kills the change streams with a comment, as an operator may.
func killCursors(ctx context.Context, admin *mongo.Database, comment string) (int, error) {
	found, err := listCursors(ctx, admin, comment)
	if err != nil {
		return 0, err
	}
	var killed int
	var errs []error
	for _, c := range found {
		var reply struct {
			Killed []int64 `bson:"cursorsKilled"`
		}
		database, collection, _ := strings.Cut(c.Namespace, ".")
		err := admin.Client().Database(database).RunCommand(ctx, bson.D{
			{Key: "killCursors", Value: collection}, {Key: "cursors", Value: bson.A{c.Cursor.ID}},
		}).Decode(&reply)
		if err != nil {
			errs = append(errs, fmt.Errorf("kill a cursor: %w", err))
		}
		killed += len(reply.Killed)
	}
	return killed, errors.Join(errs...)
}
