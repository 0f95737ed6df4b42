package main

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// stuckAfter is how many mongodb.max_await a running stream may be silent.
const stuckAfter = 30

// board holds the streams that the port tells of; there are none while the topics
// are being checked.
type board struct {
	mu      sync.Mutex
	streams []*daemon.Stream
}

func (b *board) show(streams []*daemon.Stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams = streams
}

func (b *board) progress() []daemon.Progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]daemon.Progress, 0, len(b.streams))
	for _, s := range b.streams {
		all = append(all, s.Progress())
	}
	return all
}

// ran tells whether any of the streams has got as far as reading.
func (b *board) ran() bool {
	for _, p := range b.progress() {
		if !p.Read.IsZero() {
			return true
		}
	}
	return false
}

// serveStatus opens the port, unless it is off, and returns what closes it. The port
// outlives the streams, so that their end can be watched.
func serveStatus(ctx context.Context, cfg *config.Config, b *board, log *zap.Logger) (closePort func(), err error) {
	if cfg.HTTP.Address == config.HTTPOff {
		return func() {}, nil
	}
	server := status.New(status.Options{
		Address: cfg.HTTP.Address, Version: versionInfo().Version, Name: cfg.Name, Instance: instance(),
		Stuck: max(stuckAfter*cfg.MongoDB.MaxAwait, 2*serverSelection+30*time.Second),
	}, b.progress, status.NewRegistry(b.progress), log)
	listener, err := server.Listen(ctx)
	if err != nil {
		return nil, err
	}
	log.Info("status port open", zap.Stringer("address", listener.Addr()))
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(serving, listener); err != nil {
			log.Error("the status port is closed", zap.Error(err))
		}
	}()
	return func() { stop(); <-done }, nil
}
