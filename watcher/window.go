package watcher

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/servererror"
)

// codeCappedPositionLost is the answer to a question for an entry that is being deleted.
const codeCappedPositionLost = 136

// Window is the span of a cluster's oplog.
type Window struct {
	// Oldest is the oldest entry's time. It is zero where it cannot be read: the user
	// lacks find on local.oplog.rs, or the server is a mongos, which has no oplog.
	Oldest bson.Timestamp
	// Whole says that the oplog still begins with the replica set itself: it has never
	// had to forget an entry.
	Whole bool
	// Newest is the time of the newest operation that the cluster knows.
	Newest bson.Timestamp
	// Committed is how far a majority of the members has come; zero where the server does
	// not tell, as a mongos.
	Committed bson.Timestamp
}

// Window asks the server once; it may be used from any goroutine. ctx may have a
// deadline: this is no change stream.
func (w *Watcher) Window(ctx context.Context) (Window, error) {
	reply, err := w.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Raw()
	if err != nil {
		return Window{}, fmt.Errorf("ask for the newest operation: %w", err)
	}
	var window Window
	if t, i, ok := reply.Lookup("operationTime").TimestampOK(); ok {
		window.Newest = bson.Timestamp{T: t, I: i}
	}
	if t, i, ok := reply.Lookup("lastWrite", "majorityOpTime", "ts").TimestampOK(); ok {
		window.Committed = bson.Timestamp{T: t, I: i}
	}
	window.Oldest, window.Whole, err = w.oldest(ctx)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments), servererror.LacksRight(err):
		return window, nil
	case err != nil:
		return Window{}, err
	}
	return window, nil
}

// Now gives the time of the newest entry of the oplog: whatever was committed before
// the call has that time or an earlier one. It asks once, and returns
// an *Error for what an operator must see; a command finds out by it whether the cluster
// can be used.
func (w *Watcher) Now(ctx context.Context) (bson.Timestamp, error) {
	raw, err := w.client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Raw()
	if err != nil {
		if fatal := classify(err); fatal != nil {
			return bson.Timestamp{}, fatal
		}
		return bson.Timestamp{}, fmt.Errorf("reach MongoDB: %w", err)
	}
	t, i, ok := raw.Lookup("operationTime").TimestampOK()
	if !ok {
		standalone := fatalCodes()[40573]
		return bson.Timestamp{}, &Error{Class: standalone.Class, Hint: standalone.Hint, Err: errors.New("the server keeps no oplog")}
	}
	return bson.Timestamp{T: t, I: i}, nil
}

// Oldest gives the time of the oldest entry of the oplog, for as long as it takes to
// get it. It needs the right to read the database local.
func (w *Watcher) Oldest(ctx context.Context) (bson.Timestamp, error) {
	var at bson.Timestamp
	err := w.retry(ctx, func() (advanced bool, err error) {
		at, _, err = w.oldest(ctx)
		return false, err
	})
	return at, err
}

// oldest is the time of the oldest entry, and whether it is the very first. That is
// found out by the server: the entry itself may hold a document.
func (w *Watcher) oldest(ctx context.Context) (at bson.Timestamp, first bool, err error) {
	isFirst := bson.D{{Key: "$and", Value: bson.A{
		bson.D{{Key: "$eq", Value: bson.A{"$op", "n"}}}, bson.D{{Key: "$eq", Value: bson.A{"$o.msg", "initiating set"}}},
	}}}
	projection := bson.D{{Key: "_id", Value: 0}, {Key: "ts", Value: 1}, {Key: "first", Value: isFirst}}
	ask := func() (bson.Raw, error) {
		return w.client.Database("local").Collection("oplog.rs").
			FindOne(ctx, bson.D{}, options.FindOne().SetSort(bson.D{{Key: "$natural", Value: 1}}).SetProjection(projection)).Raw()
	}
	raw, err := ask()
	for lost := mongo.ServerError(nil); errors.As(err, &lost) && lost.HasErrorCode(codeCappedPositionLost); {
		raw, err = ask() // the entry is being deleted
	}
	if err != nil {
		return bson.Timestamp{}, false, rightOn(fmt.Errorf("find the oldest oplog entry: %w", err), "find on local.oplog.rs")
	}
	t, i, ok := raw.Lookup("ts").TimestampOK()
	if !ok {
		return bson.Timestamp{}, false, &Error{Class: Unsupported, Hint: "set start to a time", Err: errors.New("the oplog's oldest entry has no time")}
	}
	first, _ = raw.Lookup("first").BooleanOK()
	return bson.Timestamp{T: t, I: i}, first, nil
}
