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

// earlier tells whether token a is of an earlier oplog time than token b. The
// time is the first field of a token's text: two digits of its type and 16 of the
// timestamp. An idle stream's token sorts before the changes of its own time
// although they have been scanned, so a scan's end is found by the time alone.
func earlier(a, b bson.Raw) bool {
	const timeDigits = 18
	x, okX := a.Lookup("_data").StringValueOK()
	y, okY := b.Lookup("_data").StringValueOK()
	return okX && okY && len(x) >= timeDigits && len(y) >= timeDigits && x[:timeDigits] < y[:timeDigits]
}

// errReached ends a scan.
var errReached = errors.New("scan reached its end")

// Scan reads the span of the oplog from a time to a token, both included, and
// hands its changes to each, oldest first. It is how a process learns what its
// predecessor had seen. It returns when the span is read to its end.
func (w *Watcher) Scan(ctx context.Context, from bson.Timestamp, until bson.Raw, each func(change bson.Raw)) error {
	var reached, idle bool
	err := w.Run(ctx, From{ClusterTime: from}, func(_ context.Context, c Chunk) error {
		for _, raw := range c.Changes {
			id, ok := raw.Lookup("_id").DocumentOK()
			if !ok || After(id, until) {
				reached = true
				return errReached
			}
			each(raw)
		}
		// A stream is opened with an empty chunk, at which nothing is scanned yet: of
		// empty chunks at until's own time, only a second one in a row is the end.
		wasIdle := idle
		idle = len(c.Changes) == 0
		if !After(until, c.Token) || (idle && wasIdle && !earlier(c.Token, until)) {
			reached = true
			return errReached
		}
		return nil
	})
	if reached {
		return nil
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("scan the oplog: %w", err)
}
