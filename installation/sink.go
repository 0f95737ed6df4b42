package installation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/layout"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/replicas"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

// Sink makes the publishers of all streams.
type Sink struct {
	Config  *config.Config
	clients *Clients
	stdout  io.Writer
	log     *zap.Logger
	Kafka   []kgo.Opt
	// Metrics is where the clients' traffic is counted; nil counts none.
	Metrics prometheus.Registerer
	// Tracer gets a trace of each batch; nil for none.
	Tracer trace.Tracer
	file   *resumetoken.File
	// Handover carries positions from the streams before to those of Config.
	Handover *layout.Handover
	// refused has a function for each stream, by name, that takes refusals of the brokers that
	// may pass.
	refused map[string]func(error)
	// limits and Partitions are the topics' size limits and numbers of partitions. Prepare and
	// HaveTopics set them; limits is nil before.
	limits     *publisher.Limits
	Partitions map[string]int
	// Reader reads positions that others store; nil has a client made for each reading.
	Reader *kgo.Client
	// observe is nil except in builds with fault points.
	observe func(point string)
}

// newSink makes the maker of publishers. It connects to nothing yet.
func newSink(cfg *config.Config, clients *Clients, stdout io.Writer, log *zap.Logger) (*Sink, error) {
	s := &Sink{Config: cfg, clients: clients, stdout: stdout, log: log, refused: map[string]func(error){}}
	s.Handover = layout.NewHandover(layoutOf(Plan(cfg)), layoutOf(planGroups(cfg, nil)), s.Store, log)
	var err error
	if s.observe, err = faultPoint(log); err != nil {
		return nil, err
	}
	s.file = resumetoken.NewFile(cfg.Checkpoint.File.Path, instance())
	if !cfg.HasTopics() {
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
		return nil, Usagef("%s", err.Error())
	}
	s.Kafka = options
	return s, nil
}

// publisher gives the maker of one stream's publishers, a new one for each attempt.
func (s *Sink) publisher(stream string) func() (daemon.Publisher, error) {
	open := s.OutsideLayout(stream)
	if !s.Config.KeepsPositions() {
		return open
	}
	return func() (daemon.Publisher, error) {
		p, err := open()
		if err != nil {
			return nil, err
		}
		return daemon.NewInLayout(p, s.Handover, stream), nil
	}
}

// OutsideLayout gives the maker of publishers that take no position over from other streams,
// such as a backfill's.
func (s *Sink) OutsideLayout(stream string) func() (daemon.Publisher, error) {
	if !s.Config.KeepsPositions() {
		memory := &resumetoken.Memory{} // of all attempts
		return func() (daemon.Publisher, error) { return publisher.NewStdout(s.stdout, memory, stream), nil }
	}
	return func() (daemon.Publisher, error) { return s.storing(stream) }
}

// storing makes a publisher whose positions outlive the process.
func (s *Sink) storing(stream string) (daemon.Publisher, error) {
	if s.Config.PublishesOnce() {
		return publisher.NewTransactional(s.positions(stream, stream), s.Options(stream))
	}
	store, err := s.Store(stream)
	if err != nil {
		return nil, err
	}
	if !s.Config.HasTopics() {
		return publisher.NewStdout(s.stdout, store, stream), nil
	}
	return publisher.NewIdempotent(store, s.client(stream, stream), s.Options(stream), s.Config.Checkpoint.Interval)
}

// client are the options of a client that produces for a stream, and that is in /metrics
// under a name.
func (s *Sink) client(stream, name string) []kgo.Opt {
	return slices.Concat(Measured(s.Kafka, s.Metrics, name), publisher.Answers(s.log.Named("kafka"), s.refused[stream]))
}

// Options are those of a stream's publisher.
func (s *Sink) Options(stream string) publisher.Options {
	return publisher.Options{
		Stream: stream, DeadLetters: s.Config.Topics.DeadLetters,
		Compression: string(s.Config.Kafka.Compression), Linger: s.Config.Kafka.Linger,
		MaxRecordBytes: s.Config.Kafka.MaxRecordBytes, TopicMaxBytes: s.limits.Known(),
		Observe: s.observe,
	}
}

// maxEventBytes asks the brokers what publisher.Options.MaxEventBytes is now.
func (s *Sink) maxEventBytes(ctx context.Context, topic string) (int, error) {
	if err := s.limits.Ask(ctx, topic); err != nil {
		return 0, err
	}
	return s.Options("").MaxEventBytes(topic), nil
}

// positions are the options of a stream's positions, whose client is in /metrics under
// a name.
func (s *Sink) positions(stream, client string) resumetoken.KafkaOptions {
	return resumetoken.KafkaOptions{
		ClientOptions: s.client(stream, client), Topic: s.Config.Topics.Positions, Name: s.Config.Name, Stream: stream, Instance: instance(),
		TransactionTimeout: s.Config.Kafka.TransactionTimeout, Log: s.log, Observe: s.observe, Reader: s.Reader,
	}
}

// Store is where a stream's position is stored.
func (s *Sink) Store(stream string) (resumetoken.Keeper, error) {
	switch s.Config.Checkpoint.Store {
	case config.StoreFile:
		return s.file.Stream(stream), nil
	case config.StoreMongoDB:
		home, _ := s.Config.PositionsInMongoDB()
		client, err := s.clients.Client(home.URI)
		if err != nil {
			return nil, err
		}
		key := s.Config.Name + "/" + stream
		return resumetoken.NewMongoDB(client.Database(home.Database).Collection(home.Collection), key, instance()), nil
	case config.StoreKafka:
		return resumetoken.NewKafka(s.positions(stream, stream+"/positions"))
	}
	return nil, Usagef("checkpoint.store: %s is no store that is known", s.Config.Checkpoint.Store)
}

// Prepare checks the topics before anything is read, and creates them where the
// configuration says so. It waits for brokers that are out of reach, and calls waits with
// the error.
func (s *Sink) Prepare(ctx context.Context, waits func(error)) error {
	if !s.Config.HasTopics() {
		return nil
	}
	need := s.streamRequirements()
	if s.Config.PositionsInKafka() {
		need.Trial, need.TransactionTimeout = s.Config.Name+"/check/start", s.Config.Kafka.TransactionTimeout
	}
	backoff := wait.Backoff{Min: s.Config.Retry.MinBackoff, Max: s.Config.Retry.MaxBackoff}
	for {
		report, err := publisher.CheckTopics(ctx, s.Kafka, need)
		if s.Config.ReplicasByKafka() && (err == nil || IsRefused(err)) {
			// One error names all rights that an operator has to grant.
			err = errors.Join(err, s.mayJoin(ctx))
		}
		if err == nil {
			for _, w := range report.Warnings {
				s.log.Warn(w)
			}
			if len(report.Created) > 0 {
				s.log.Info("topics created", zap.Strings("topics", report.Created))
			}
			s.limits, s.Partitions = publisher.NewLimits(s.Kafka, report), report.Partitions
			return nil
		}
		if ctx.Err() != nil || errors.As(err, new(*publisher.ConfigurationError)) || errors.As(err, new(*replicas.Refused)) {
			return err
		}
		waits(err)
		pause := backoff.Next()
		s.log.Warn("Kafka cannot be used yet, trying again", zap.Duration("pause", pause), zap.Error(err))
		if err := wait.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// HaveTopics makes sure that the brokers can be reached and have what is required.
func (s *Sink) HaveTopics(ctx context.Context, need publisher.Requirements) error {
	defer s.waits(ctx)()
	report, err := publisher.CheckTopics(ctx, s.Kafka, need)
	if err != nil {
		return err
	}
	s.limits, s.Partitions = publisher.NewLimits(s.Kafka, report), report.Partitions
	return nil
}

// waits tells that a command waits for the brokers, until ended is called.
func (s *Sink) waits(ctx context.Context) (ended func()) {
	return terminal.Waits(ctx, "Kafka at "+strings.Join(s.Config.Kafka.Brokers, ", "))
}

// mayJoin returns the refusal of this process by the group of the replicas. A group that is only
// full is no refusal: that passes.
func (s *Sink) mayJoin(ctx context.Context) error {
	err := replicas.Probe(ctx, replicas.Options{Client: s.Kafka, Group: s.Config.Name, SessionTimeout: s.Config.SessionTimeout})
	if errors.Is(err, kerr.GroupMaxSizeReached) {
		return nil
	}
	return err
}

// Look finds out once more whether the brokers take the login, and whether the topics of the
// streams are there and the rights on them are granted.
func (s *Sink) Look(ctx context.Context) error {
	need := s.streamRequirements()
	need.Create = false
	_, err := publisher.CheckTopics(ctx, s.Kafka, need)
	return err
}

// streamRequirements are the requirements of the streams.
func (s *Sink) streamRequirements() publisher.Requirements {
	need := s.Requirements("")
	if s.Config.PositionsInKafka() {
		for _, p := range Plan(s.Config) {
			need.TransactionalIDs = append(need.TransactionalIDs, s.Config.Name+"/"+p.Name)
		}
	}
	return need
}

// Requirements are the topics that the brokers must have, those of events after a prefix.
func (s *Sink) Requirements(prefix string) publisher.Requirements {
	topics := s.Config.Topics
	r := publisher.Requirements{
		DeadLetters: topics.DeadLetters, Audit: topics.Audit, Create: topics.Create, Partitions: topics.Partitions,
		PositionPartitions: topics.PositionPartitions, ReplicationFactor: topics.ReplicationFactor,
	}
	if s.Config.PositionsInKafka() {
		r.Positions = topics.Positions
	}
	for _, kind := range s.Config.Events.Enabled() {
		r.Events = append(r.Events, prefix+s.Config.Events.Of(kind.Name).Topic)
	}
	return r
}

// OtherStreams is a message if the stored positions are of other streams than the configuration's,
// else "". A changed list of streams is in force once a daemon has run with it.
func (s *Sink) OtherStreams(ctx context.Context) (string, error) {
	names, own, err := s.Handover.Streams(ctx)
	if err != nil || own {
		return "", err
	}
	return "the streams that run are " + strings.Join(names, ", ") + ", or divide the collections in another way than this configuration: " +
		"use the configuration (streams, events.change.resources) that the daemons have", nil
}

// NotePosition tells a stream where its stored position is, or that it has none.
func (s *Sink) NotePosition(ctx context.Context, stream *daemon.Stream) error {
	store, err := s.Store(stream.Name())
	if err != nil {
		return err
	}
	p, err := resumetoken.Glance(ctx, store)
	if err == nil && p.IsZero() && stream.Progress().HasPosition {
		// A glance does not see a position in another partition of the topic.
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
	case p.IsZero() || p.HandedTo > 0 && len(p.Token) == 0: // none, or the seal of a stream that never began
		stream.Missing(nil)
	case p.HandedTo > 0:
		stream.SawPosition(resumetoken.Position{})
	default:
		stream.SawPosition(p)
	}
	return nil
}
