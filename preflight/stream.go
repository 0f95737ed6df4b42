package preflight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// CheckedStream is a change stream to check.
type CheckedStream struct {
	Name    string
	Watcher *watcher.Watcher
	// Client is the client of the stream's cluster. Database is the database on which the
	// stream is opened; empty for the whole cluster.
	Client   *mongo.Client
	Database string
	// Sliced says that the stream is one of several slices.
	Sliced bool
	// OplogWindow is the time that the oplog should cover.
	OplogWindow time.Duration
}

func (s CheckedStream) subject(what string) string { return "stream " + s.Name + ": " + what }

// Open opens the stream as the daemon does, and once more after its token. This tests the
// rights, the pipeline, post-batch tokens and startAfter.
func (s CheckedStream) Open(ctx context.Context) []Finding {
	token, err := s.Watcher.Begin(ctx, watcher.From{})
	if err == nil {
		// The answer to an idle stream's question comes after mongodb.max_await.
		probing, cancel := context.WithTimeout(ctx, probeTime)
		defer cancel()
		err = s.Watcher.Probe(probing, watcher.From{Token: token})
	}
	var known *watcher.Error
	switch {
	case errors.As(err, &known):
		return []Finding{failure(s.subject("open"), short(known.Err), known.Hint)}
	case err != nil:
		return []Finding{failure(s.subject("open"), short(err), "")}
	}
	return []Finding{ok(s.subject("open"), "it can be opened, and resumed after its post-batch token")}
}

// probeTime is how long Open reads an idle stream.
const probeTime = 3 * time.Second

// Features checks the features that only some servers have: hashing keys, which slices need,
// and splitting events above 16 MB.
func (s CheckedStream) Features(ctx context.Context) []Finding {
	hash := bson.D{{Key: "$match", Value: watcher.Slice{Of: 2}.Filter("$documentKey._id")}}
	split := bson.D{{Key: "$changeStreamSplitLargeEvent", Value: bson.D{}}}
	return []Finding{
		s.feature(ctx, "slices ($toHashedIndexKey)", hash, func() Finding {
			if s.Sliced {
				return failure(s.subject("slices"), "the server cannot choose changes by the hash of their key", "take slices out of streams, or use a newer MongoDB")
			}
			return ok(s.subject("slices ($toHashedIndexKey)"), "not there, and not needed: no stream has slices")
		}),
		s.feature(ctx, "split of large events ($changeStreamSplitLargeEvent)", split, func() Finding {
			return ok(s.subject("split of large events ($changeStreamSplitLargeEvent)"), "not there, and not needed: the projection keeps events small")
		}),
	}
}

func (s CheckedStream) feature(ctx context.Context, name string, stage bson.D, missing func() Finding) Finding {
	database := s.Client.Database("admin")
	stream := bson.D{{Key: "$changeStream", Value: bson.D{{Key: "allChangesForCluster", Value: true}}}}
	if s.Database != "" {
		database, stream = s.Client.Database(s.Database), bson.D{{Key: "$changeStream", Value: bson.D{}}}
	}
	reply, err := database.RunCommand(ctx, bson.D{
		{Key: "aggregate", Value: 1},
		{Key: "pipeline", Value: bson.A{stream, stage}},
		{Key: "cursor", Value: bson.D{{Key: "batchSize", Value: 0}}},
	}).Raw()
	var server mongo.ServerError
	switch {
	case err == nil:
		if id, found := reply.Lookup("cursor", "id").AsInt64OK(); found {
			_ = database.RunCommand(ctx, bson.D{{Key: "killCursors", Value: "$cmd.aggregate"}, {Key: "cursors", Value: bson.A{id}}}).Err()
		}
		return ok(s.subject(name), "there")
	case errors.As(err, &server) && (server.HasErrorCode(40324) || server.HasErrorCode(168) || server.HasErrorCode(31325)):
		return missing()
	}
	return warning(s.subject(name), "cannot be found out: "+short(err), "")
}

// Oplog checks the time that the oplog covers: the daemon or Kafka may be away for so long.
func (s CheckedStream) Oplog(ctx context.Context) []Finding {
	subject := s.subject("oplog window")
	window, err := s.Watcher.Window(ctx)
	switch {
	case err != nil:
		return []Finding{warning(subject, short(err), "")}
	case window.Oldest.IsZero():
		return []Finding{warning(subject, "not known",
			"grant find on local.oplog.rs to the user to have it watched (a sharded cluster does not tell it: look at each shard)")}
	}
	holds := time.Duration(int64(window.Newest.T)-int64(window.Oldest.T)) * time.Second
	size, most := s.oplogSize(ctx)
	text := fmt.Sprintf("%s (mongodb.oplog_min_window: %s)", terminal.Duration(holds), terminal.Duration(s.OplogWindow))
	if most > 0 && size < most*9/10 {
		text = fmt.Sprintf("%s in %s of %s, so it is still growing", terminal.Duration(holds), terminal.Size(size), terminal.Size(most))
		if size > 0 {
			holds = time.Duration(float64(holds) * float64(most) / float64(size))
			text += fmt.Sprintf("; at this rate to about %s", terminal.Duration(holds))
		}
	}
	if holds < s.OplogWindow {
		return []Finding{warning(subject, text, fmt.Sprintf("an outage longer than that loses changes: make the oplog larger "+
			"(replSetResizeOplog with size and minRetentionHours: %.0f), or set mongodb.oplog_min_window to what you accept", s.OplogWindow.Hours()))}
	}
	return []Finding{ok(subject, "%s", text)}
}

const storedPosition = "stored position"

// Position checks that a stream can go on from its stored position. repairs says that
// lost history is repaired.
func (s CheckedStream) Position(ctx context.Context, from watcher.From, repairs bool) []Finding {
	subject := s.subject(storedPosition)
	probing, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	err := s.Watcher.Probe(probing, from)
	var known *watcher.Error
	switch {
	case err == nil && !s.Watcher.KnowsSet():
		return []Finding{warning(subject, "the oplog holds it, as far as the server tells the user; whether the replica set was restored or replaced is not known",
			"grant find on local.system.replset and local.oplog.rs (a sharded cluster tells neither)")}
	case err == nil:
		return []Finding{ok(subject, "the oplog holds it, and is that of the same replica set")}
	case errors.As(err, &known) && known.Class == watcher.HistoryLost && repairs:
		return []Finding{warning(subject, short(known.Err), "what was missed is made up for from the collections when the stream runs (repair.on_history_lost: repair)")}
	case known != nil:
		return []Finding{failure(subject, short(known.Err), known.Hint)}
	}
	return s.NoPosition(err)
}

// Repairing is the finding about a stream in a repair of lost history.
func (s CheckedStream) Repairing() []Finding {
	return []Finding{warning(s.subject(storedPosition), "lost history is being made up for from the collections", "/status tells how far it is")}
}

// NoPosition is the finding that a stored position cannot be read.
func (s CheckedStream) NoPosition(err error) []Finding {
	return []Finding{warning(s.subject(storedPosition), "it cannot be looked at: "+short(err), "")}
}

// oplogSize is the oplog's present and largest size in bytes; zero if the user may not ask.
func (s CheckedStream) oplogSize(ctx context.Context) (size, most int64) {
	stats, err := s.Client.Database("local").RunCommand(ctx, bson.D{{Key: "collStats", Value: "oplog.rs"}}).Raw()
	if err != nil {
		return 0, 0
	}
	size, _ = stats.Lookup("size").AsInt64OK()
	most, _ = stats.Lookup("maxSize").AsInt64OK()
	return size, most
}
