// Package majority reads the writes that a majority of a replica set has, which no election
// takes back, and waits until a majority has all writes up to a time.
package majority

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/fhir-cdc/fhir-cdc/wait"
)

// Collection is a collection that is read from the primary with majority read concern,
// whatever the connection string says. Right after an election the new primary may not know yet
// that a majority has a write which the former one acknowledged. A reading that must see it waits
// with After.
func Collection(c *mongo.Collection) *mongo.Collection {
	return c.Clone(options.Collection().SetReadPreference(readpref.Primary()).SetReadConcern(readconcern.Majority()))
}

// After is a context for readings that see at least what their cluster wrote up to one of its
// times. They wait until a majority has that; zero waits for nothing. end ends the context.
func After(ctx context.Context, client *mongo.Client, at bson.Timestamp) (causal context.Context, end func(), err error) {
	session, err := client.StartSession(options.Session().SetCausalConsistency(true))
	if err != nil {
		return nil, nil, fmt.Errorf("begin a causal reading: %w", err)
	}
	if !at.IsZero() {
		if err := session.AdvanceOperationTime(&at); err != nil {
			session.EndSession(ctx)
			return nil, nil, fmt.Errorf("begin a causal reading: %w", err)
		}
	}
	return mongo.NewSessionContext(ctx, session), func() { session.EndSession(context.WithoutCancel(ctx)) }, nil
}

// Readable finds out whether the user may read a collection, which may be missing.
func Readable(ctx context.Context, c *mongo.Collection, comment string) error {
	err := Collection(c).FindOne(ctx, bson.D{}, options.FindOne().SetProjection(bson.D{{Key: "_id", Value: 1}}).SetComment(comment)).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil
	}
	return err
}

// Newest is the time of the newest write that a cluster's primary has, whether a majority
// has it too or not.
func Newest(ctx context.Context, client *mongo.Client) (bson.Timestamp, error) {
	reply, err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Raw()
	if err != nil {
		return bson.Timestamp{}, fmt.Errorf("ask for the newest write: %w", err)
	}
	t, i, _ := reply.Lookup("operationTime").TimestampOK() // zero where there is no oplog
	return bson.Timestamp{T: t, I: i}, nil
}

const (
	// look is how long the server waits for a majority before it answers.
	look = time.Second
	// The server's answers while a majority has not reached the time, and while the server
	// does not know the time at all: after an election the new primary's own may be earlier.
	codeMaxTimeMSExpired = 50
	codeInvalidOptions   = 72
	// unheard is how long a primary may not know a time at all: longer than an election
	// takes, and longer than the 10 s between two writes of an idle primary.
	unheard = time.Minute
)

// Await waits until a majority has all writes of a collection's cluster up to a time, for
// as long as that takes, and calls waits about every second until then. It fails as soon
// as the server does not answer, and if the server has not known the time for a minute:
// then the majority is not late, but the time is another cluster's.
func Await(ctx context.Context, c *mongo.Collection, at bson.Timestamp, comment string, waits func()) error {
	if at.IsZero() {
		return nil
	}
	probe := bson.D{
		{Key: "find", Value: c.Name()},
		{Key: "projection", Value: bson.D{{Key: "_id", Value: 1}}},
		{Key: "limit", Value: 1},
		{Key: "singleBatch", Value: true},
		{Key: "maxTimeMS", Value: look.Milliseconds()},
		{Key: "comment", Value: comment},
		{Key: "readConcern", Value: bson.D{{Key: "level", Value: "majority"}, {Key: "afterClusterTime", Value: at}}},
	}
	return await(ctx, at, func() error { return c.Database().RunCommand(ctx, probe).Err() }, waits)
}

func await(ctx context.Context, at bson.Timestamp, ask func() error, waits func()) error {
	heard := time.Now()
	for {
		asked := time.Now()
		err := ask()
		var server mongo.ServerError
		if !errors.As(err, &server) || !server.HasErrorCode(codeInvalidOptions) {
			heard = asked
		}
		switch {
		case err == nil:
			return nil
		case asked.Sub(heard) > unheard:
			return fmt.Errorf("wait for a majority: for %v the primary has not known the time %d,%d, which comes from another cluster or from before a restore: "+
				"see that the address is the cluster's; \"fhir-cdc position set\" gives the stream a position in this one: %w", unheard, at.T, at.I, err)
		case !errors.As(err, &server) || !server.HasErrorCode(codeMaxTimeMSExpired) && !server.HasErrorCode(codeInvalidOptions):
			return fmt.Errorf("wait for a majority to have what the primary has: %w", err)
		}
		waits()
		if err := wait.Sleep(ctx, look-time.Since(asked)); err != nil {
			return err
		}
	}
}
