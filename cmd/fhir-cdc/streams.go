package main

import (
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// newStreams makes one stream for each cluster that is watched.
func newStreams(cfg *config.Config, clients *clusters, m *mapper.Mapper, s *sink, facts daemon.Facts, log *zap.Logger) ([]*daemon.Stream, error) {
	var streams []*daemon.Stream
	for _, group := range clustersOf(cfg, m.Feeds()) {
		client, err := clients.client(group.place.URI)
		if err != nil {
			return nil, err
		}
		var stream *daemon.Stream
		source, history, err := watchers(cfg, client, group, m, log, func(err error) { stream.Broke(err) })
		if err != nil {
			return nil, err
		}
		options, err := streamOptions(cfg, group.stream)
		if err != nil {
			return nil, err
		}
		stream = daemon.NewStream(options, source, history, m, facts, s.publisher(group.stream), log)
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
		stream, place := "main", c.MongoDB.Main()
		switch f.Namespace {
		case mapper.Namespace{Database: audit.Database, Collection: audit.Collection}:
			stream, place = "audit-events", audit
		case mapper.Namespace{Database: access.Database, Collection: access.Collection}:
			stream, place = "access-logs", access
		}
		i := slices.IndexFunc(out, func(c cluster) bool { return c.place.Same(place) })
		if i < 0 {
			out = append(out, cluster{stream: stream, place: place})
			i = len(out) - 1
		}
		if stream == "main" {
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
func watchers(c *config.Config, client *mongo.Client, group cluster, projection *mapper.Mapper, log *zap.Logger, broke func(error)) (main, history daemon.Source, err error) {
	spec := watcher.Spec{Project: projection.Projection(), PreImages: c.Events.Change.Enabled && c.Events.Change.Deletes}
	past := spec
	for _, f := range group.feeds {
		feed := watcher.Feed{Database: f.Namespace.Database, Collection: f.Namespace.Collection, Operations: f.Operations, Filter: f.Filter}
		spec.Feeds = append(spec.Feeds, feed)
		if slices.Contains(f.Kinds, mapper.KindAccessedEverything) {
			past.Feeds = append(past.Feeds, feed)
		}
	}
	options := watcher.Options{
		Name:       c.Name + "/" + group.stream,
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
