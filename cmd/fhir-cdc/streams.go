package main

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
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// newStreams makes the streams of a plan.
func newStreams(cfg *config.Config, plan []plannedStream, clients *clusters, s *sink, facts streamFacts, log *zap.Logger) ([]*daemon.Stream, error) {
	var streams []*daemon.Stream
	for _, p := range plan {
		client, err := clients.client(p.place.URI)
		if err != nil {
			return nil, err
		}
		var stream *daemon.Stream
		m := mapper.New(p.mapper)
		source, requests, err := watchers(cfg, client, p, m, log, func(err error) { stream.Broke(err) })
		if err != nil {
			return nil, err
		}
		var history daemon.Source // nil where there are no requests to remember
		if requests != nil {
			history = requests
		}
		options, err := streamOptions(cfg, p.name)
		if err != nil {
			return nil, err
		}
		options.Tracer, options.MaxEventBytes = s.tracer, s.maxEventBytes
		if options.Repairer, err = newRepairer(cfg, p, client, m, clients, s, facts.unremembered(), log); err != nil {
			return nil, err
		}
		stream = daemon.NewStream(options, source, history, m, facts.of(p), s.publisher(p.name), log)
		streams = append(streams, stream)
	}
	return streams, nil
}

// cluster is a MongoDB cluster with what is watched on it: one stream, so that one
// total order covers all of it.
type cluster struct {
	stream string
	place  config.Cluster
	feeds  []mapper.Feed
}

// clustersOf groups feeds by the cluster that holds them.
func clustersOf(c *config.Config, feeds []mapper.Feed) []cluster {
	access, audit := c.MongoDB.AccessLogsCluster(), c.MongoDB.AuditEventsCluster()
	var out []cluster
	for _, f := range feeds {
		stream, place := config.StreamMain, c.MongoDB.Main()
		switch f.Namespace {
		case mapper.Namespace{Database: audit.Database, Collection: audit.Collection}:
			stream, place = config.StreamAuditEvents, audit
		case mapper.Namespace{Database: access.Database, Collection: access.Collection}:
			stream, place = config.StreamAccessLogs, access
		}
		i := slices.IndexFunc(out, func(c cluster) bool { return c.place.Same(place) })
		if i < 0 {
			out = append(out, cluster{stream: stream, place: place})
			i = len(out) - 1
		}
		if stream == config.StreamMain {
			out[i].stream, out[i].place = stream, place
		}
		out[i].feeds = append(out[i].feeds, f)
	}
	return out
}

func mapperConfig(c *config.Config) mapper.Config {
	access, audit := c.MongoDB.AccessLogsCluster(), c.MongoDB.AuditEventsCluster()
	m := mapper.Config{
		Database:    c.MongoDB.Main().Database,
		Resources:   c.Events.Change.Resources,
		Deletes:     c.Events.Change.Deletes,
		AccessLogs:  mapper.Namespace{Database: access.Database, Collection: access.Collection},
		AuditEvents: mapper.Namespace{Database: audit.Database, Collection: audit.Collection},
	}
	if c.Events.Change.Enabled {
		m.ChangeTopic = c.Events.Change.Topic
	}
	if c.Events.Export.Enabled {
		m.ExportTopic = c.Events.Export.Topic
	}
	if c.Events.AccessedEverything.Enabled {
		m.AccessedEverythingTopic = c.Events.AccessedEverything.Topic
	}
	return m
}

// historyAwait is short because that watcher only reads what has been: to wait at
// its end for more, as long as the main stream does, would delay every start.
const historyAwait = 10 * time.Millisecond

// watchers makes the stream's watcher, and the one that reads back which
// $everything requests were seen (nil where none are watched).
func watchers(c *config.Config, client *mongo.Client, p plannedStream, projection *mapper.Mapper, log *zap.Logger, broke func(error)) (main, history *watcher.Watcher, err error) {
	spec := watcher.Spec{
		Project: projection.Projection(), Slice: p.slice,
		PreImages: c.Events.Change.Enabled && c.Events.Change.Deletes,
	}
	past := spec
	for _, f := range p.feeds {
		feed := watcher.Feed{Database: f.Namespace.Database, Collection: f.Namespace.Collection, Operations: f.Operations, Filter: f.Filter}
		spec.Feeds = append(spec.Feeds, feed)
		if slices.Contains(f.Kinds, mapper.KindAccessedEverything) {
			past.Feeds = append(past.Feeds, feed)
		}
	}
	options := watcher.Options{
		Name:       c.Name + "/" + p.name,
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
	options.MaxAwait = historyAwait
	history, err = watcher.New(client, options, log)
	return main, history, err
}

// probeSlices opens a stream of each group with slices and closes it, before any
// stream is taken from another process: a server that cannot hash keys says so now.
func probeSlices(ctx context.Context, c *config.Config, plan []plannedStream, clients *clusters, log *zap.Logger) error {
	for _, p := range plan {
		if p.slice.Of < 2 || p.slice.Index > 0 {
			continue
		}
		client, err := clients.client(p.place.URI)
		if err != nil {
			return err
		}
		probe, _, err := watchers(c, client, p, mapper.New(p.mapper), log, nil)
		if err != nil {
			return err
		}
		if _, err := probe.Begin(ctx, watcher.From{}); err != nil {
			return fmt.Errorf("streams: %s: %w", p.name, err)
		}
	}
	return nil
}
