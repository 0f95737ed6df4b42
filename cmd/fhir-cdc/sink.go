package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// sink makes the publishers of all streams.
type sink struct {
	cfg     *config.Config
	clients *clusters
	stdout  io.Writer
	log     *zap.Logger
	kafka   []kgo.Opt
	// metrics is where the clients' traffic is counted; nil counts none.
	metrics prometheus.Registerer
	// tracer gets a trace of each batch; nil for none.
	tracer trace.Tracer
	file   *resumetoken.File
	// handover carries positions from the streams before to those of cfg.
	handover *resumetoken.Handover
	// limits and partitions are what prepare found of the topics; limits is nil before.
	limits     *publisher.Limits
	partitions map[string]int
	// observe is nil, but in builds that tests stop at a point of a batch's way.
	observe func(point string)
}

func newSink(cfg *config.Config, clients *clusters, stdout io.Writer, log *zap.Logger) (*sink, error) {
	s := &sink{cfg: cfg, clients: clients, stdout: stdout, log: log}
	s.handover = resumetoken.NewHandover(layoutOf(planStreams(cfg)), layoutOf(planGroups(cfg, nil)), s.store, log)
	var err error
	if s.observe, err = faultPoint(log); err != nil {
		return nil, err
	}
	if cfg.Checkpoint.Store == config.StoreFile {
		s.file = resumetoken.NewFile(cfg.Checkpoint.File.Path, instance())
	}
	if cfg.Sink == config.SinkStdout {
		return s, nil
	}
	k := cfg.Kafka
	options, err := publisher.ClientOptions(publisher.Connection{
		Brokers:  k.Brokers,
		ClientID: cfg.ClientID(),
		TLS: publisher.TLS{
			Enabled: k.TLS.Enabled, CAFile: k.TLS.CAFile, CertFile: k.TLS.CertFile, KeyFile: k.TLS.KeyFile, ServerName: k.TLS.ServerName,
		},
		SASL: kafkaLogin(cfg),
	}, log.Named("kafka"))
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	s.kafka = options
	return s, nil
}

// publisher gives the maker of one stream's publishers, a new one for each attempt.
func (s *sink) publisher(stream string) func() (daemon.Publisher, error) {
	if s.cfg.Sink == config.SinkStdout && s.cfg.Checkpoint.Store == config.StoreKafka {
		// Positions of a stream that is only tried out live as long as the process,
		// unless a store was asked for that works without Kafka.
		memory := &resumetoken.Memory{}
		return func() (daemon.Publisher, error) { return publisher.NewStdout(s.stdout, memory, stream), nil }
	}
	return func() (daemon.Publisher, error) {
		p, err := s.storing(stream)
		if err != nil {
			return nil, err
		}
		return publisher.NewInLayout(p, s.handover, stream), nil
	}
}

// outsideLayout gives the maker of publishers of something that is not one of the
// installation's streams, and takes nothing over from them: a backfill.
func (s *sink) outsideLayout(name string) func() (daemon.Publisher, error) {
	return func() (daemon.Publisher, error) { return s.storing(name) }
}

// storing makes a publisher whose positions outlive the process.
func (s *sink) storing(stream string) (publisher.Carrier, error) {
	if s.cfg.Sink == config.SinkKafka && s.cfg.Delivery == config.ExactlyOnce {
		return publisher.NewTransactional(s.positions(stream, stream), s.options(stream))
	}
	store, err := s.store(stream)
	if err != nil {
		return nil, err
	}
	if s.cfg.Sink == config.SinkStdout {
		return publisher.NewStdout(s.stdout, store, stream), nil
	}
	return publisher.NewIdempotent(store, measured(s.kafka, s.metrics, stream), s.options(stream), s.cfg.Checkpoint.Interval)
}

func (s *sink) options(stream string) publisher.Options {
	return publisher.Options{
		Stream: stream, DeadLetters: s.cfg.Topics.DeadLetters,
		Compression: string(s.cfg.Kafka.Compression), Linger: s.cfg.Kafka.Linger,
		MaxRecordBytes: s.cfg.Kafka.MaxRecordBytes, TopicMaxBytes: s.limits.Known(),
		Observe: s.observe,
	}
}

// maxEventBytes asks the brokers what publisher.Options.MaxEventBytes is now.
func (s *sink) maxEventBytes(ctx context.Context, topic string) (int, error) {
	if err := s.limits.Ask(ctx, topic); err != nil {
		return 0, err
	}
	return s.options("").MaxEventBytes(topic), nil
}

// positions are the options of a stream's positions, whose client is in /metrics under
// a name.
func (s *sink) positions(stream, client string) resumetoken.KafkaOptions {
	return resumetoken.KafkaOptions{
		ClientOptions: measured(s.kafka, s.metrics, client), Topic: s.cfg.Topics.Positions, Name: s.cfg.Name, Stream: stream, Instance: instance(),
		TransactionTimeout: s.cfg.Kafka.TransactionTimeout, Log: s.log, Observe: s.observe,
	}
}

func (s *sink) store(stream string) (resumetoken.Keeper, error) {
	switch s.cfg.Checkpoint.Store {
	case config.StoreFile:
		return s.file.Stream(stream), nil
	case config.StoreMongoDB:
		home := s.cfg.CheckpointCluster()
		client, err := s.clients.client(home.URI)
		if err != nil {
			return nil, err
		}
		key := s.cfg.Name + "/" + stream
		return resumetoken.NewMongoDB(client.Database(home.Database).Collection(home.Collection), key, instance()), nil
	default:
		return resumetoken.NewKafka(s.positions(stream, stream+"/positions"))
	}
}

// prepare checks the topics before anything is read, and creates them where the
// configuration says so. Brokers that are out of reach are waited for, and waits is told
// why.
func (s *sink) prepare(ctx context.Context, waits func(error)) error {
	if s.cfg.Sink == config.SinkStdout {
		return nil
	}
	need := s.requirements()
	if s.cfg.ReplicasByKafka() {
		need.Group = s.cfg.Name
	}
	if s.cfg.Checkpoint.Store == config.StoreKafka {
		for _, p := range planStreams(s.cfg) {
			need.TransactionalIDs = append(need.TransactionalIDs, s.cfg.Name+"/"+p.name)
		}
	}
	backoff := s.cfg.Retry.MinBackoff
	for {
		report, err := publisher.CheckTopics(ctx, s.kafka, need)
		if err == nil {
			for _, w := range report.Warnings {
				s.log.Warn(w)
			}
			if len(report.Created) > 0 {
				s.log.Info("topics created", zap.Strings("topics", report.Created))
			}
			s.limits, s.partitions = publisher.NewLimits(s.kafka, report), report.Partitions
			return nil
		}
		if ctx.Err() != nil || errors.As(err, new(*publisher.ConfigurationError)) {
			return err
		}
		waits(err)
		s.log.Warn("Kafka cannot be used yet, trying again", zap.Duration("pause", backoff), zap.Error(err))
		if err := rest(ctx, backoff); err != nil {
			return err
		}
		backoff = min(backoff*2, s.cfg.Retry.MaxBackoff)
	}
}

func (s *sink) requirements() publisher.Requirements {
	events, topics := s.cfg.Events, s.cfg.Topics
	r := publisher.Requirements{
		DeadLetters: topics.DeadLetters, Audit: topics.Audit, Create: topics.Create, Partitions: topics.Partitions,
		PositionPartitions: topics.PositionPartitions, ReplicationFactor: topics.ReplicationFactor,
	}
	if s.cfg.Checkpoint.Store == config.StoreKafka {
		r.Positions = topics.Positions
	}
	if events.Change.Enabled {
		r.Events = append(r.Events, events.Change.Topic)
	}
	if events.Export.Enabled {
		r.Events = append(r.Events, events.Export.Topic)
	}
	if events.AccessedEverything.Enabled {
		r.Events = append(r.Events, events.AccessedEverything.Topic)
	}
	return r
}

// otherStreams says so if the positions are those of other streams than the
// configuration has; "" if they are not. A changed list of streams holds once a daemon
// has run with it.
func (s *sink) otherStreams(ctx context.Context) (string, error) {
	names, own, err := s.handover.Streams(ctx)
	if err != nil || own {
		return "", err
	}
	return "the streams that run are " + strings.Join(names, ", ") + ", or divide the collections in another way than this configuration: " +
		"use the configuration (streams, events.change.resources) that the daemons have", nil
}
