// Package instance is one process of an installation: it runs the streams, all of them or
// those that the group of the replicas gives it, finds out which of the others it could carry,
// and has the status port.
package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/installation"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/status"
)

// runStreams runs the streams with clients of their own until ctx ends or an error
// ends one of them.
func runStreams(ctx context.Context, cfg *config.Config, shown *processState, measure telemetry, stdout io.Writer, log *zap.Logger) (err error) {
	shown.show(nil, installation.StreamFacts{})
	in, err := installation.Open(cfg, stdout, log)
	if err != nil {
		return err
	}
	clients, sink := in.Clients, in.Sink
	told := ctx
	ctx, renew := context.WithCancelCause(ctx)
	defer renew(nil)
	clients.Outdated = func() { renew(installation.ErrOutdated) }
	defer func() {
		if errors.Is(context.Cause(ctx), installation.ErrOutdated) && told.Err() == nil {
			err = errors.Join(installation.ErrOutdated, err)
		}
	}()
	defer func() { clients.Disconnect(ctx, &err) }()
	sink.Metrics, sink.Tracer = measure.metrics, measure.tracer
	if cfg.HasTopics() {
		log.Info("looking at Kafka", zap.Strings("brokers", cfg.Kafka.Brokers))
	}
	if err := sink.Prepare(ctx, func(err error) { shown.waitsFor("Kafka", err) }); err != nil {
		if ctx.Err() != nil {
			return nil // Told to stop while the brokers were out of reach.
		}
		return err
	}
	shown.reached(sink.Apart())
	var facts installation.StreamFacts
	var streams []*daemon.Stream
	var look *look
	if err := untilResolved(ctx, cfg, shown, log, func() (err error) {
		if facts, err = in.NewStreamFacts(); err == nil {
			streams, err = in.NewStreams(facts)
		}
		if err == nil {
			look, err = newLook(ctx, cfg, streams, sink, log)
		}
		return err
	}); err != nil {
		if ctx.Err() != nil {
			return nil // Told to stop while DNS was out of reach.
		}
		return err
	}
	defer tellUnwatched(ctx, in)()
	defer func() { look.clients.Disconnect(ctx, &err) }() // New secrets have brought new clients.
	shown.show(streams, facts)
	log.Info("looking at MongoDB; no stream is taken before it answers")
	if err := look.first(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if cfg.ReplicasByKafka() {
		return runShared(ctx, in, streams, look, shown)
	}
	return runAlone(ctx, streams)
}

// runAlone runs all streams in this process.
func runAlone(ctx context.Context, streams []*daemon.Stream) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range streams {
		g.Go(func() error { return s.Run(ctx) })
	}
	return g.Wait()
}

// runShared runs the streams that the consumer group assigns to this process. At
// the end the streams are ended first and the group is left then, so that the next
// owner finds everything committed.
func runShared(ctx context.Context, in *installation.Installation, streams []*daemon.Stream, look *look, shown *processState) error {
	cfg, s, log := in.Config, in.Sink, in.Log
	partitions := s.Partitions[cfg.Topics.Positions]
	same, err := installation.ReplicaConfiguration(cfg, in.Plan, partitions)
	if err != nil {
		return err
	}
	byPartition, weights := map[int32][]*daemon.Stream{}, map[int32]int{}
	shares := replicas.PartitionsOf(installation.StreamNames(in.Plan), partitions)
	for _, stream := range streams {
		p := shares[stream.Name()]
		byPartition[p], weights[p] = append(byPartition[p], stream), weights[p]+1
	}
	if s.Reader, err = kgo.NewClient(installation.Measured(s.Kafka, s.Metrics, "positions")...); err != nil {
		return fmt.Errorf("configure kafka client: %w", err)
	}
	defer s.Reader.Close()
	running, stop := context.WithCancel(ctx)
	defer stop()
	replica := daemon.NewReplica(running, byPartition, installation.ReclaimAfter*cfg.SessionTimeout, log)
	member, err := replicas.Join(replicas.Options{
		Client: installation.Measured(s.Kafka, s.Metrics, "replicas"), Group: cfg.Name, Topic: cfg.Topics.Positions, Instance: installation.ReplicaName(cfg),
		SessionTimeout: cfg.SessionTimeout, RebalanceTimeout: cfg.ShutdownTimeout + cfg.SessionTimeout,
		Configuration: same, Streams: weights, Abilities: look.abilities(shares), Logger: publisher.ClientLogger(log.Named("kafka")),
	}, replica, log)
	if err != nil {
		return err
	}
	log.Info("joined the replicas; streams run where the group assigns them", zap.String("group", cfg.Name), zap.String("instance", installation.ReplicaName(cfg)))
	shown.joined(member, func(ctx context.Context) (map[string]string, error) { return owners(ctx, member, byPartition) })
	var looking sync.WaitGroup
	looking.Go(func() { notePositions(running, s, streams, log) })
	looking.Go(func() {
		if err := look.again(running, shares, member.Able); err != nil {
			replica.Failed(err)
		}
	})
	defer looking.Wait() // after the group is left: nobody waits for a look that is under way
	err = replica.Wait(ctx)
	stop()
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), installation.DisconnectTimeout)
	defer cancel()
	if e := member.Leave(leaving); e != nil {
		log.Warn("could not leave the group; others take over after session_timeout", zap.Error(e))
	}
	return err
}

// Run runs the daemon until ctx ends. Events of sink: stdout go to stdout, logs to
// stderr. It is the wiring, and the order of shutdown: streams end (each stops
// reading, commits what it has read and closes its publisher), then the clients.
func Run(ctx context.Context, cfg *config.Config, version string, stdout, stderr io.Writer) error {
	logs, err := installation.NewLogging(cfg.Log, stderr)
	if err != nil {
		return err
	}
	log := logs.Logger
	defer func() { _ = log.Sync() }() // A console cannot be synced and says so.
	defer logs.Follow()()
	keepWithinContainer(log)
	log.Info("fhir-cdc starts", zap.String("version", version), zap.String("name", cfg.Name),
		zap.String("delivery", string(cfg.Delivery)), zap.String("sink", string(cfg.Sink)),
		zap.String("mongodb", config.RedactURI(cfg.MongoDB.Main().URI.Reveal())), zap.Strings("brokers", cfg.Kafka.Brokers), memoryLimit())

	for _, f := range cfg.Warnings() {
		log.Warn("a setting is probably not what was meant", zap.Stringer("setting", f))
	}
	shown := &processState{}
	registry := status.NewRegistry()
	closePort, err := serveStatus(ctx, cfg, version, shown, logs, registry, log)
	if err != nil {
		return err
	}
	defer closePort()
	tracer, endTraces, err := newTracer(ctx, cfg, version, log)
	if err != nil {
		return err
	}
	defer endTraces()
	if err := withFreshClients(ctx, cfg, shown.ran, log, func(cfg *config.Config) error {
		return runStreams(ctx, cfg, shown, telemetry{registry, tracer}, stdout, log)
	}); err != nil {
		return err
	}
	log.Info("fhir-cdc stopped")
	return nil
}
