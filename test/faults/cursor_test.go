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
	}
}

// TestCursors lets MongoDB answer the daemons with errors and kills their cursors,
// at random, while changes are written.
func TestCursors(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t, 5*time.Minute)
	mongoURI, brokers := sharedServers(t)
	// At least once is only more than exactly once when something is repeated
	// after a failure; a stream that is reopened in place repeats nothing.
	p := startPair(ctx, t, mongoURI, brokers, exactlyOnce().withFacts(), atLeastOnce("mongodb"))
	alive, cancel := whileAlive(ctx, p.daemons()...)
	defer cancel()
	p.caughtUp(alive)
	admin := connect(t, mongoURI).Database("admin")
	random := newRandom(p.load.seed)
	commands := [][]string{{"getMore"}, {"getMore", "aggregate"}, {"find", "update", "findAndModify"}}
	var killed, refused int
	for n := range scaled(40, soakFactor) {
		i := p.installations[random.IntN(len(p.installations))]
		var err error
		var hits int
		if random.IntN(5) == 0 {
			hits, err = killCursors(alive, admin, "fhir-cdc/"+i.site.Name+"/main")
			killed += hits
		} else {
			codes := failures()
			code := codes[n%len(codes)]
			hits, err = refuse(alive, admin, "fhir-cdc/"+i.site.Name, commands[random.IntN(len(commands))], code, random)
			refused += hits
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d commands were refused and %d cursors killed", refused, killed)
	if refused < 10 || killed < 1 {
		t.Error("that proves too little")
	}
	p.caughtUp(alive)
	if err := context.Cause(alive); err != nil {
		t.Fatal(err)
	}
	p.finish(ctx)
}

// refuse has the server answer the next one to three commands of a client with an
// error, and waits until they have come or for a second. It returns how many came.
func refuse(ctx context.Context, admin *mongo.Database, client string, commands []string, code int, random *rand.Rand) (int, error) {
	times := 1 + random.IntN(3)
	data := bson.D{
		{Key: "failCommands", Value: commands},
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
	if _, err := configure(bson.D{{Key: "times", Value: times}}); err != nil {
		return 0, err
	}
	begin := time.Now()
	for {
		if err := pass(ctx, between(random, 20*time.Millisecond, 100*time.Millisecond)); err != nil {
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
		if hits >= times || state.Failpoint.Mode == 0 || time.Since(begin) > time.Second {
			after, err := configure("off")
			return after - before, err
		}
	}
}

// killCursors kills the change streams with a comment, as an operator may.
func killCursors(ctx context.Context, admin *mongo.Database, comment string) (int, error) {
	cursors, err := admin.Aggregate(ctx, mongo.Pipeline{
		{{Key: "$currentOp", Value: bson.D{{Key: "idleCursors", Value: true}, {Key: "allUsers", Value: true}}}},
		{{Key: "$match", Value: bson.D{{Key: "cursor.originatingCommand.comment", Value: comment}}}},
	})
	if err != nil {
		return 0, fmt.Errorf("list cursors: %w", err)
	}
	var found []struct {
		Namespace string `bson:"ns"`
		Cursor    struct {
			ID int64 `bson:"cursorId"`
		} `bson:"cursor"`
	}
	if err := cursors.All(ctx, &found); err != nil {
		return 0, fmt.Errorf("list cursors: %w", err)
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
