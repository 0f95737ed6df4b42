package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/status"
)

func newRunCommand(environ []string, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch MongoDB and write events until told to stop",
		Long: `Watch MongoDB and write the event of every committed change until SIGTERM or
SIGINT. The first signal stops reading, commits what is in flight and ends; a
second one, a second or more after it, aborts at once. SIGUSR1 switches debug logging on and off.

Every stream goes on where its stored position says. Without one it begins at
--start.`,
		Example: `  # With the FHIR server's own variables
  fhir-cdc run

  # With a file, and one key changed
  fhir-cdc run --config config.yaml --set kafka.compression=zstd

  # To see events without Kafka, of one member, whatever its replica set calls it
  MONGO_URL='mongodb://localhost:27017/?directConnection=true' MONGO_DB_NAME=fhir ENABLE_EVENTS_KAFKA=1 \
    fhir-cdc run --sink stdout --log-format console`,
		Args: cobra.NoArgs,
	}
	flags := addConfigFlags(cmd, environ)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := flags.load(cmd)
		if err != nil {
			return err
		}
		return run(cmd.Context(), cfg, stdout, stderr)
	}
	return cmd
}

// run runs the daemon until ctx ends. Events of sink: stdout go to stdout, logs to
// stderr. It is the wiring, and the order of shutdown: streams end (each stops
// reading, commits what it has read and closes its publisher), then the clients.
func run(ctx context.Context, cfg *config.Config, stdout, stderr io.Writer) error {
	logs, err := newLogging(cfg.Log, stderr)
	if err != nil {
		return err
	}
	log := logs.Logger
	defer func() { _ = log.Sync() }() // A console cannot be synced and says so.
	defer logs.follow()()
	keepWithinContainer(log)
	log.Info("fhir-cdc starts", zap.String("version", versionInfo().Version), zap.String("name", cfg.Name),
		zap.String("delivery", string(cfg.Delivery)), zap.String("sink", string(cfg.Sink)),
		zap.String("mongodb", config.RedactURI(cfg.MongoDB.Main().URI.Reveal())), zap.Strings("brokers", cfg.Kafka.Brokers), memoryLimit())

	for _, f := range cfg.Warnings() {
		log.Warn("a setting is probably not what was meant", zap.Stringer("setting", f))
	}
	shown := &board{}
	registry := status.NewRegistry()
	closePort, err := serveStatus(ctx, cfg, shown, logs, registry, log)
	if err != nil {
		return err
	}
	defer closePort()
	tracer, endTraces, err := newTracer(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer endTraces()
	if err := withFreshSecrets(ctx, cfg, shown.ran, log, func(cfg *config.Config) error {
		return runStreams(ctx, cfg, shown, telemetry{registry, tracer}, stdout, log)
	}); err != nil {
		return err
	}
	log.Info("fhir-cdc stopped")
	return nil
}

// runStreams runs the streams with clients of their own until ctx ends or an error
// ends one of them.
func runStreams(ctx context.Context, cfg *config.Config, shown *board, measure telemetry, stdout io.Writer, log *zap.Logger) (err error) {
	shown.show(nil, streamFacts{})
	clients := newClusters(cfg.Name)
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), disconnectTimeout)
		defer cancel()
		if e := clients.close(closing); e != nil && err == nil {
			err = fmt.Errorf("disconnect from MongoDB: %w", e)
		}
	}()
	sink, err := newSink(cfg, clients, stdout, log)
	if err != nil {
		return err
	}
	sink.metrics, sink.tracer = measure.metrics, measure.tracer
	if err := sink.prepare(ctx, shown.waitsFor); err != nil {
		if ctx.Err() != nil {
			return nil // Told to stop while the brokers were out of reach.
		}
		return err
	}
	if cfg.Sink == config.SinkKafka {
		shown.audited(publisher.NewAudit(sink.kafka, cfg.Topics.Audit))
	}
	facts, err := newStreamFacts(cfg, clients)
	if err != nil {
		return err
	}
	plan := planStreams(cfg)
	streams, err := newStreams(cfg, plan, clients, sink, facts, log)
	if err != nil {
		return err
	}
	if err := probeSlices(ctx, cfg, plan, clients, log); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	shown.show(streams, facts)
	if cfg.ReplicasByKafka() {
		return runShared(ctx, cfg, sink, plan, streams, shown, log)
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
func runShared(ctx context.Context, cfg *config.Config, s *sink, plan []plannedStream, streams []*daemon.Stream, shown *board, log *zap.Logger) error {
	partitions := s.partitions[cfg.Topics.Positions]
	same, err := configurationOf(cfg, plan, partitions)
	if err != nil {
		return err
	}
	byPartition := map[int32][]*daemon.Stream{}
	for _, stream := range streams {
		p := resumetoken.PartitionOf(cfg.Name+"/"+stream.Name(), partitions)
		byPartition[p] = append(byPartition[p], stream)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	replica := daemon.NewReplica(running, byPartition, reclaimAfter*cfg.SessionTimeout, log)
	member, err := replicas.Join(replicas.Options{
		Client: measured(s.kafka, s.metrics, "replicas"), Group: cfg.Name, Topic: cfg.Topics.Positions, Instance: replicaName(cfg),
		SessionTimeout: cfg.SessionTimeout, RebalanceTimeout: cfg.ShutdownTimeout + cfg.SessionTimeout,
		Configuration: same, Logger: publisher.ClientLogger(log.Named("kafka")),
	}, replica, log)
	if err != nil {
		return err
	}
	log.Info("joined the replicas; streams run where the group assigns them", zap.String("group", cfg.Name), zap.String("instance", replicaName(cfg)))
	shown.joined(member, func(ctx context.Context) (map[string]string, error) { return owners(ctx, member, byPartition) })
	var looking sync.WaitGroup
	looking.Go(func() { notePlaces(running, s, streams, log) })
	err = replica.Wait(ctx)
	stop()
	looking.Wait()
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), disconnectTimeout)
	defer cancel()
	if e := member.Leave(leaving); e != nil {
		log.Warn("could not leave the group; others take over after session_timeout", zap.Error(e))
	}
	return err
}

// owners names the instance that each stream is assigned to.
func owners(ctx context.Context, member *replicas.Member, streams map[int32][]*daemon.Stream) (map[string]string, error) {
	assigned, err := member.Owners(ctx)
	if err != nil {
		return nil, err
	}
	byStream := map[string]string{}
	for partition, instance := range assigned {
		for _, s := range streams[partition] {
			byStream[s.Name()] = instance
		}
	}
	return byStream, nil
}

// reclaimAfter session timeouts pass before a stream that a process outside the
// group has taken is taken back.
const reclaimAfter = 3

// replicaName tells this process from the other replicas.
func replicaName(cfg *config.Config) string {
	if cfg.Instance != "" {
		return cfg.Instance
	}
	if pod := os.Getenv("POD_NAME"); pod != "" {
		return pod
	}
	host, err := os.Hostname()
	if err != nil {
		return "" // A dynamic member.
	}
	return host
}

const disconnectTimeout = 5 * time.Second

func streamOptions(cfg *config.Config, name string) (daemon.Options, error) {
	at, _, err := cfg.Start.Time()
	if err != nil {
		return daemon.Options{}, fmt.Errorf("start: %w", err)
	}
	var save time.Duration
	if cfg.Delivery == config.AtLeastOnce {
		save = cfg.Checkpoint.Interval
	}
	return daemon.Options{
		Name:       name,
		Start:      daemon.Start{Oldest: cfg.Start == config.StartOldest, At: at},
		MaxRecords: cfg.Batch.MaxRecords, MaxBytes: cfg.Batch.MaxBytes,
		Stop:         stopping(cfg),
		IdleInterval: cfg.Checkpoint.IdleInterval, SaveInterval: save,
		SeenWindow: cfg.Facts.AccessedEverythingWindow, SeenRequests: cfg.Facts.SeenRequests,
		Patience:     daemon.Patience{Read: cfg.MongoDB.MaxAwait, Facts: cfg.Facts.Wait},
		DrainTimeout: cfg.ShutdownTimeout,
		MinBackoff:   cfg.Retry.MinBackoff, MaxBackoff: cfg.Retry.MaxBackoff,
	}, nil
}

// stopping are the kinds for which a failure stops a stream.
func stopping(cfg *config.Config) map[mapper.Kind]bool {
	return map[mapper.Kind]bool{
		mapper.KindChange:             cfg.Events.Change.OnFailure == config.Stop,
		mapper.KindExport:             cfg.Events.Export.OnFailure == config.Stop,
		mapper.KindAccessedEverything: cfg.Events.AccessedEverything.OnFailure == config.Stop,
	}
}

// instance names this process for people who look at positions and claims.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}
