package instance

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/replicas"
)

const (
	// positionPoll is the pause between two looks whether a stream has begun in another process.
	// A stand-by is not ready before that; nothing else waits for it.
	positionPoll = time.Second
	// positionRefresh is the pause between two looks at the position of a stream that has begun.
	// By the last look a stand-by that takes over tells a new stream from a stream whose
	// position topic was deleted.
	positionRefresh = 15 * time.Second
)

// notePositions tells the streams that other processes carry their stored positions: the first
// time as soon as a position is stored, then every positionRefresh, and when it is gone. A stream
// with an owner may have no position yet: on a first start the group may move it before the
// first owner has stored one.
func notePositions(ctx context.Context, s *installation.Sink, streams []*daemon.Stream, log *zap.Logger) {
	ticker := time.NewTicker(positionPoll)
	defer ticker.Stop()
	looked := make([]time.Time, len(streams))
	for {
		// The stand-by has to see which list of streams is in force: once it has seen its own
		// in force, it does not bring that back after another process has changed it.
		if err := s.Handover.Look(ctx); err != nil {
			log.Debug("the list of streams that is in force could not be read", zap.Error(err))
		}
		for i, stream := range streams {
			p := stream.Progress()
			if p.State != daemon.StandingBy || p.HasPosition && time.Since(looked[i]) < positionRefresh {
				continue // A running stream knows its position; another's is known.
			}
			if err := s.NotePosition(ctx, stream); err != nil {
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

// owners names the instance that each stream is assigned to.
func owners(ctx context.Context, member *replicas.Member, streams map[int32][]*daemon.Stream) (map[string]string, error) {
	assigned, err := member.Owners(ctx)
	if err != nil {
		return nil, err
	}
	byStream := map[string]string{}
	for partition, owner := range assigned {
		for _, s := range streams[partition] {
			byStream[s.Name()] = owner.Instance
		}
	}
	return byStream, nil
}
