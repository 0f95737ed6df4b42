package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// placePoll is the pause between two looks whether a stream has begun elsewhere. A
// stand-by is not ready before it has, and nothing else waits for it.
const placePoll = time.Second

// notePlaces tells the streams that another process carries once they have a stored
// position. Who owns a stream does not say so: on a first start the group may take it
// from one process before the next one has it.
func notePlaces(ctx context.Context, s *sink, streams []*daemon.Stream, log *zap.Logger) {
	ticker := time.NewTicker(placePoll)
	defer ticker.Stop()
	for {
		left := 0
		for _, stream := range streams {
			p := stream.Progress()
			if p.Placed {
				continue
			}
			left++
			if p.State != daemon.StandingBy {
				continue // It finds out by itself.
			}
			placed, err := s.placed(ctx, stream.Name())
			if err != nil {
				log.Debug("it could not be found out whether the stream has begun", zap.String("stream", stream.Name()), zap.Error(err))
			}
			if placed {
				stream.Placed()
			}
		}
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// placed tells whether a stream has a stored position.
func (s *sink) placed(ctx context.Context, stream string) (bool, error) {
	store, err := s.store(stream)
	if err != nil {
		return false, err
	}
	p, err := resumetoken.Glance(ctx, store)
	if err = errors.Join(err, store.Close(ctx)); err != nil {
		return false, fmt.Errorf("look for a position: %w", err)
	}
	return !p.IsZero(), nil
}
