package installation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// NewStreams makes the streams of the plan.
func (o *Installation) NewStreams(facts StreamFacts) ([]*daemon.Stream, error) {
	cfg, s, log := o.Config, o.Sink, o.Log
	var streams []*daemon.Stream
	for _, p := range o.Plan {
		client, err := o.Clients.Client(p.Place.URI)
		if err != nil {
			return nil, err
		}
		var stream *daemon.Stream
		m := mapper.New(p.Mapper)
		source, requests, err := Watchers(cfg, client, p, m, log, func(err error) { stream.Broke(err) })
		if err != nil {
			return nil, err
		}
		parts := daemon.Parts{Source: source, Mapper: m, Facts: facts.of(p), Publish: s.publisher(p.Name)}
		if requests != nil { // else there are no requests to remember
			parts.History = requests
		}
		options, err := streamOptions(cfg, p.Name)
		if err != nil {
			return nil, err
		}
		options.Tracer, options.MaxEventBytes = s.Tracer, s.maxEventBytes
		options.NoteWhole = func(ctx context.Context, what string, n mapper.Namespace) error {
			return s.Record(ctx, instance(), p.Name, publisher.AuditCollectionGone, map[string]any{"operation": what, "database": n.Database, "collection": n.Collection})
		}
		if options.Repairer, err = o.newRepairer(p, m, facts.unremembered()); err != nil {
			return nil, err
		}
		stream = daemon.NewStream(options, parts, log)
		s.refused[p.Name] = stream.Refused
		streams = append(streams, stream)
	}
	return streams, nil
}

// HistoryAwait is short because that watcher only reads what has been: to wait at
// its end for more, as long as the main stream does, would delay every start.
const HistoryAwait = 10 * time.Millisecond

// Watchers makes the stream's watcher, and the one that reads back which
// $everything requests were seen (nil where none are watched).
func Watchers(c *config.Config, client *mongo.Client, p PlannedStream, projection *mapper.Mapper, log *zap.Logger, broke func(error)) (main, history *watcher.Watcher, err error) {
	spec := watcher.Spec{
		Project: projection.Projection(), Slice: p.Slice,
		PreImages: len(c.Events.WithDeletes()) > 0 || projection.Windowed(),
	}
	past := spec
	for _, f := range p.Feeds {
		feed := watcher.Feed{Database: f.Namespace.Database, Collection: f.Namespace.Collection, Filter: f.Filter}
		spec.Feeds = append(spec.Feeds, feed)
		if slices.Contains(f.Kinds, mapper.KindAccessedEverything) {
			past.Feeds = append(past.Feeds, feed)
		}
	}
	options := watcher.Options{
		Name:       c.Name + "/" + p.Name,
		Spec:       spec,
		BatchSize:  int32(c.MongoDB.BatchSize),
		MaxAwait:   c.MongoDB.MaxAwait,
		Limits:     watcher.Limits{Records: c.MongoDB.BatchSize, Bytes: c.Batch.MaxBytes},
		MinBackoff: c.Retry.MinBackoff,
		MaxBackoff: c.Retry.MaxBackoff,
		OnBreak:    broke,
	}
	if main, err = watcher.New(client, options, log); err != nil || len(past.Feeds) == 0 {
		return main, nil, err
	}
	options.Spec = past
	options.MaxAwait = HistoryAwait
	history, err = watcher.New(client, options, log)
	return main, history, err
}

func streamOptions(cfg *config.Config, name string) (daemon.Options, error) {
	at, _, err := cfg.Start.Time()
	if err != nil {
		return daemon.Options{}, fmt.Errorf("start: %w", err)
	}
	var save, delay time.Duration
	if cfg.Delivery == config.AtLeastOnce {
		save = cfg.Checkpoint.Interval
	}
	if cfg.PublishesOnce() {
		delay = cfg.Batch.MaxDelay
	}
	return daemon.Options{
		Name:       name,
		Start:      daemon.Start{Oldest: cfg.Start == config.StartOldest, At: at},
		MaxRecords: cfg.Batch.MaxRecords, MaxBytes: cfg.Batch.MaxBytes, MaxDelay: delay,
		Stop:         Stopping(cfg),
		IdleInterval: cfg.Checkpoint.IdleInterval, SaveInterval: save,
		SeenWindow: cfg.Facts.AccessedEverythingWindow, SeenRequests: cfg.Facts.SeenRequests,
		AnswerLimits: daemon.AnswerLimits{Read: cfg.MongoDB.MaxAwait, Facts: cfg.Facts.Wait},
		DrainTimeout: cfg.ShutdownTimeout,
		MinBackoff:   cfg.Retry.MinBackoff, MaxBackoff: cfg.Retry.MaxBackoff,
	}, nil
}

// Stopping are the kinds for which a failure stops a stream.
func Stopping(cfg *config.Config) map[mapper.Kind]bool {
	stop := map[mapper.Kind]bool{}
	for _, kind := range mapper.Kinds() {
		stop[kind.Name] = cfg.Events.Of(kind.Name).OnFailure == config.Stop
	}
	return stop
}
