package watcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// cursor is the part of a mongo.ChangeStream that is used here. Tests script it.
type cursor interface {
	TryNext(ctx context.Context) bool
	Current() bson.Raw
	ResumeToken() bson.Raw
	RemainingBatchLength() int
	ID() int64
	Err() error
	Close(ctx context.Context) error
}

// changeStream is a mongo.ChangeStream that leaves no cursor behind.
type changeStream struct {
	*mongo.ChangeStream
	// session is the stream's own: the server finds by it what the stream has left behind.
	session *mongo.Session
	watcher *Watcher
	// id is the cursor's that was opened first.
	id int64
}

// Current makes a field a method.
func (s *changeStream) Current() bson.Raw { return s.ChangeStream.Current }

// Close closes the cursor. After an error there may be others: the driver opens a stream
// again by itself, leaves the cursor of a broken connection, and does not learn of the new one
// if ctx ends or the connection breaks in the middle of that.
func (s *changeStream) Close(ctx context.Context) error {
	broken := s.Err() != nil || s.ID() != s.id && s.ID() != 0
	err := s.ChangeStream.Close(ctx)
	if broken {
		s.watcher.suspect(s.session)
		err = s.watcher.sweep(ctx) // which is what the driver may just have failed at
	}
	s.session.EndSession(ctx)
	return err
}

// Chunk is one batch of changes as the server sent them, or a part of one.
type Chunk struct {
	// Changes are the change events, copied: they stay valid.
	Changes []bson.Raw
	// Size is the sum of their lengths in bytes.
	Size int
	// Read is when the chunk was read, by this process's clock.
	Read time.Time
	// Token is the resume token after the last change, copied. An idle stream's
	// token moves too (the server's post-batch token).
	Token bson.Raw
}

// Limits bound a chunk. The first change is taken whatever its size.
type Limits struct{ Records, Bytes int }

// errEnded says that the server closed the cursor in order, as it does after an
// invalidate event.
var errEnded = errors.New("the server ended the change stream")

// read takes what the server has sent, or waits for more for as long as the
// stream's maxAwaitTime; an empty chunk carries the position of an idle stream.
func read(ctx context.Context, c cursor, limits Limits) (Chunk, error) {
	var chunk Chunk
	var block []byte
	for c.TryNext(ctx) {
		raw := c.Current()
		left := c.RemainingBatchLength()
		if cap(block)-len(block) < len(raw) {
			// The rest of the batch is likely to be of this size: one allocation
			// for a few changes, and no more than a quarter of a megabyte at once.
			block = make([]byte, 0, max(len(raw), min(len(raw)*(left+1)*9/8, 256<<10)))
		}
		at := len(block)
		block = append(block, raw...)
		if chunk.Changes == nil {
			chunk.Changes = make([]bson.Raw, 0, min(left+1, limits.Records))
		}
		chunk.Changes = append(chunk.Changes, bson.Raw(block[at:len(block):len(block)]))
		chunk.Size += len(raw)
		if left == 0 || len(chunk.Changes) >= limits.Records || chunk.Size >= limits.Bytes {
			break
		}
	}
	if err := c.Err(); err != nil {
		// What was read before the error is read again: the position has not moved.
		return Chunk{}, err
	}
	// The token is a slice of the server's reply; it would keep the whole reply.
	chunk.Token = bytes.Clone(c.ResumeToken())
	chunk.Read = time.Now()
	if len(chunk.Changes) == 0 && c.ID() == 0 {
		return chunk, errEnded
	}
	return chunk, nil
}

// From is where a stream starts. One of the two is set; with neither the stream
// starts now.
type From struct {
	// Token resumes after the change it belongs to. It must come from the same
	// pipeline.
	Token bson.Raw
	// ClusterTime starts at an oplog time, changes of that time included.
	ClusterTime bson.Timestamp
	// History, if set, is the history that the position belongs to, as History told it.
	// In another one the stream does not start.
	History string
	// Proof has the stream start only if it is certain that the oplog holds all that came
	// after the position: where the server has refused the token, opening proves nothing.
	Proof bool
	// OrFirst says that a time before the initiation of the replica set means its first
	// entry: nothing that was published lies before.
	OrFirst bool
}

// open opens the change stream. The first batch is asked to be empty, so that
// opening returns at once however far back the position is.
func (w *Watcher) open(ctx context.Context, from From) (cursor, error) {
	o := options.ChangeStream().
		SetBatchSize(0).
		SetMaxAwaitTime(w.opts.MaxAwait).
		SetFullDocument(options.UpdateLookup).
		SetComment("fhir-cdc/" + w.opts.Name)
	if w.opts.Spec.PreImages {
		o.SetFullDocumentBeforeChange(options.WhenAvailable)
	}
	switch {
	case len(from.Token) > 0:
		o.SetStartAfter(from.Token)
	case !from.ClusterTime.IsZero():
		o.SetStartAtOperationTime(&from.ClusterTime)
	}
	session, err := w.client.StartSession(options.Session().SetCausalConsistency(false))
	if err != nil {
		return nil, fmt.Errorf("open change stream %s: %w", w.opts.Name, err)
	}
	var cs *mongo.ChangeStream
	opening, done := endingLater(mongo.NewSessionContext(ctx, session), openGrace)
	defer done()
	where := "all databases"
	if name := w.opts.Spec.Database(); name != "" {
		where = "database " + name
		cs, err = w.client.Database(name).Watch(opening, w.pipeline, o)
	} else {
		cs, err = w.client.Watch(opening, w.pipeline, o)
	}
	if err != nil {
		if !answered(err) {
			w.suspect(session)
		}
		session.EndSession(ctx)
		return nil, rightOn(fmt.Errorf("open change stream %s: %w", w.opts.Name, err), "find and changeStream on "+where)
	}
	cs.SetBatchSize(w.opts.BatchSize)
	stream := &changeStream{ChangeStream: cs, session: session, watcher: w, id: cs.ID()}
	if err := w.sweep(ctx); err != nil {
		return nil, errors.Join(err, closeStream(ctx, stream))
	}
	return stream, nil
}
