package watcher

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// After tells whether token a is later in the oplog than token b. The server
// builds tokens so that their text sorts in oplog order (mongos merges shards by
// it). It is false for tokens of a form it does not know.
//
// It is used where two reads of the same span meet: when the pipeline has changed,
// and when a span before the position is read once more. Everywhere else tokens are
// compared for equality only.
func After(a, b bson.Raw) bool {
	x, okX := a.Lookup("_data").StringValueOK()
	y, okY := b.Lookup("_data").StringValueOK()
	return okX && okY && x > y
}

// Now gives the time of the newest entry of the oplog: whatever was committed before
// the call has that time or an earlier one. It asks once, and tells what an operator
// must see as an *Error; with it, a command finds out whether the cluster can be used.
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
