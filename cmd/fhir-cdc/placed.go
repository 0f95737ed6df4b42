package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

const (
	// placePoll is the pause between two looks whether a stream has begun elsewhere. A
	// stand-by is not ready before it has, and nothing else waits for it.
	placePoll = time.Second
	// placeRefresh is the pause between two looks whether the position of a stream that
	// has begun is still there, and where. A stand-by that takes over tells a new stream
	// from one whose position topic was deleted by what it saw then.
	placeRefresh = 15 * time.Second
)

// notePlaces tells the streams that another process carries once they have a stored
// position, where that is from time to time, and if it is gone. Who owns a stream does not
// say so: on a first start the group may take it from one process before the next one has
// it.
func notePlaces(ctx context.Context, s *sink, streams []*daemon.Stream, log *zap.Logger) {
	ticker := time.NewTicker(placePoll)
	defer ticker.Stop()
	looked := make([]time.Time, len(streams))
	for {
		// Not by itself: a list of streams that it has seen in force is not for it to
		// bring back once it has been changed.
		if err := s.handover.Look(ctx); err != nil {
			log.Debug("the list of streams that is in force could not be read", zap.Error(err))
		}
		for i, stream := range streams {
			p := stream.Progress()
			if p.State != daemon.StandingBy || p.Placed && time.Since(looked[i]) < placeRefresh {
				continue // It finds out by itself, or it is known.
			}
			if err := s.notePlace(ctx, stream); err != nil {
				log.Debug("it could not be found out whether the stream has begun", zap.String("stream", stream.Name()), zap.Error(err))
			}
			looked[i] = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// notePlace tells a stream where its stored position is, or that it has none.
func (s *sink) notePlace(ctx context.Context, stream *daemon.Stream) error {
	store, err := s.store(stream.Name())
	if err != nil {
		return err
	}
	p, err := resumetoken.Glance(ctx, store)
	if err == nil && p.IsZero() && stream.Progress().Placed {
		// A glance does not see what lies in another partition of the topic.
		var stored resumetoken.Stored
		stored, err = store.Inspect(ctx)
		p = stored.Position
	}
	err = errors.Join(err, store.Close(ctx))
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		stream.Missing(err)
		return nil
	case err != nil:
		return fmt.Errorf("look for a position: %w", err)
	case p.IsZero():
		stream.Missing(nil)
	case p.HandedTo > 0:
		stream.Placed(bson.Timestamp{})
	default:
		stream.Placed(p.ClusterTime)
	}
	return nil
}
