package faults_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// TestCursorsOfStreams kills the cursors of one daemon's several streams, each again and
// again, while changes are written. After each the server holds one cursor for each of
// the streams and no other of the daemon's.
func TestCursorsOfStreams(t *testing.T) {
	t.Parallel() // mostly waiting
	ctx := long(t)
	mongoURI, brokers := ownMongoDB(t), sharedBrokers(t)
	m := exactlyOnce()
	m.env["FHIR_CDC_STREAMS"] = "[{name: consents, resources: [Consent], slices: 2}]"
	p := newPair(t, mongoURI, brokers, m)
	i := p.installations[0]
	i.env["FHIR_CDC_RETRY_MIN_BACKOFF"], i.env["FHIR_CDC_RETRY_MAX_BACKOFF"] = "10ms", "50ms"
	p.start(ctx, pairRate)
	alive, cancel := whileAlive(ctx, i.daemons[0])
	defer cancel()
	p.caughtUp(alive)
	admin := connect(t, mongoURI).Database("admin")
	of := "fhir-cdc/" + i.site.Name + "/"
	streams := []string{of + "main", of + "consents-1-of-2", of + "consents-2-of-2"}
	seen := map[int64]bool{} // the cursors that there have been
	for len(seen) < len(streams)+scaled(reconnects, soakFactor) {
		stream := streams[len(seen)%len(streams)]
		if err := killOne(alive, admin, stream); err != nil {
			t.Fatal(err)
		}
		if err := oneCursorEach(alive, admin, of, streams, stream, seen); err != nil {
			t.Fatal(err)
		}
	}
	p.caughtUp(alive)
	if err := oneCursorEach(alive, admin, of, streams, "", seen); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d streams have had %d cursors; %d are open", len(streams), len(seen), len(streams))
	if err := context.Cause(alive); err != nil {
		t.Fatal(err)
	}
	p.finish(ctx)
}

// killOne kills the cursor of a stream, as soon as it is listed: for a moment between two
// commands it may not be.
func killOne(ctx context.Context, admin *mongo.Database, stream string) error {
	for {
		killed, err := killCursors(ctx, admin, stream)
		if err != nil || killed > 0 {
			return err
		}
		if err := pass(ctx, askAgain); err != nil {
			return fmt.Errorf("no cursor of %s can be killed: %w", stream, err)
		}
	}
}

// oneCursorEach waits until the server holds one cursor for each of the streams and no
// other of their installation, and that of the stream whose cursor was killed is a new
// one. It notes them all.
func oneCursorEach(ctx context.Context, admin *mongo.Database, of string, streams []string, killed string, seen map[int64]bool) error {
	for {
		open, err := cursorsOf(ctx, admin, of)
		if err != nil {
			return err
		}
		all := 0
		for _, ids := range open {
			all += len(ids)
		}
		right := all == len(streams) && (killed == "" || (len(open[killed]) == 1 && !seen[open[killed][0]]))
		for _, stream := range streams {
			right = right && len(open[stream]) == 1
		}
		if right {
			for _, ids := range open {
				seen[ids[0]] = true
			}
			return nil
		}
		if err := pass(ctx, askAgain); err != nil {
			return fmt.Errorf("the server holds the cursors %v, want one for each of %v: %w", open, streams, err)
		}
	}
}

// cursorsOf are the cursors whose comment, the stream's, begins with a text. One that is
// in use is listed twice, as an operation and by itself.
func cursorsOf(ctx context.Context, admin *mongo.Database, begin string) (map[string][]int64, error) {
	const comment = "cursor.originatingCommand.comment"
	cursors, err := admin.Aggregate(ctx, mongo.Pipeline{
		{{Key: "$currentOp", Value: bson.D{{Key: "idleCursors", Value: true}, {Key: "allUsers", Value: true}}}},
		{{Key: "$match", Value: bson.D{{Key: comment, Value: bson.Regex{Pattern: "^" + regexp.QuoteMeta(begin)}}}}},
		{{Key: "$group", Value: bson.D{
			{Key: "_id", Value: "$" + comment},
			{Key: "ids", Value: bson.D{{Key: "$addToSet", Value: "$cursor.cursorId"}}},
		}}},
	})
	if err != nil {
		return nil, fmt.Errorf("list cursors: %w", err)
	}
	var found []struct {
		Comment string  `bson:"_id"`
		IDs     []int64 `bson:"ids"`
	}
	if err := cursors.All(ctx, &found); err != nil {
		return nil, fmt.Errorf("list cursors: %w", err)
	}
	open := map[string][]int64{}
	for _, f := range found {
		open[f.Comment] = f.IDs
	}
	return open, nil
}
