package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/daemon"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/replay"
)

// reread prepares what every command that reads the oplog again begins with: the kinds
// that were chosen, and the streams.
func reread(cfg *config.Config, clients *clusters, kindNames []string, prefix string, stderr io.Writer) ([]mapper.Kind, []replay.Stream, error) {
	kinds, err := kindsOf(cfg, kindNames)
	if err != nil {
		return nil, nil, err
	}
	log, err := commandLog(cfg, stderr)
	if err != nil {
		return nil, nil, err
	}
	streams, err := oplogStreams(cfg, clients, prefix, log)
	return kinds, streams, err
}

// oplogStreams makes the installation's streams for reading them again, without
// anything that could disturb the live ones. prefix goes before the topics of events.
func oplogStreams(cfg *config.Config, clients *clusters, prefix string, log *zap.Logger) ([]replay.Stream, error) {
	var streams []replay.Stream
	quick := *cfg
	quick.MongoDB.MaxAwait = historyAwait // nothing is waited for at the end
	for _, p := range planStreams(cfg) {
		client, err := clients.client(p.place.URI)
		if err != nil {
			return nil, err
		}
		m := mapper.New(prefixed(p.mapper, prefix))
		source, requests, err := watchers(&quick, client, p, m, log, nil)
		if err != nil {
			return nil, err
		}
		stream := replay.Stream{Name: p.name, Mapper: m, Source: source}
		if requests != nil {
			stream.Requests = requests
		}
		streams = append(streams, stream)
	}
	return streams, nil
}

func prefixed(m mapper.Config, prefix string) mapper.Config {
	for _, topic := range []*string{&m.ChangeTopic, &m.ExportTopic, &m.AccessedEverythingTopic} {
		if *topic != "" {
			*topic = prefix + *topic
		}
	}
	return m
}

// named keeps the stream of a name, or all if there is no name.
func named(streams []replay.Stream, name string) ([]replay.Stream, error) {
	if name == "" {
		return streams, nil
	}
	var names []string
	for _, s := range streams {
		if s.Name == name {
			return []replay.Stream{s}, nil
		}
		names = append(names, s.Name)
	}
	return nil, &usageError{fmt.Sprintf("--stream %q: there is no such stream; the configuration has %s", name, strings.Join(names, ", "))}
}

// newOplog reads the oplog as the streams do.
func newOplog(cfg *config.Config, facts daemon.Facts, maxEventBytes func(string) int, stderr io.Writer) *replay.Oplog {
	return &replay.Oplog{
		Facts: facts, SeenWindow: cfg.Facts.AccessedEverythingWindow, SeenRequests: cfg.Facts.SeenRequests, MaxEventBytes: maxEventBytes,
		Forgotten: func(stream string, err error) {
			_, _ = fmt.Fprintf(stderr, "fhir-cdc: stream %s: which $everything requests came right before could not be read (%v); one may have its event twice, with one id\n", stream, err)
		},
	}
}

// newest asks every stream's cluster for its newest time, which also finds out
// whether the cluster can be used at all.
func newest(ctx context.Context, streams []replay.Stream) ([]bson.Timestamp, error) {
	times := make([]bson.Timestamp, len(streams))
	for i, s := range streams {
		at, err := s.Source.Now(ctx)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", s.Name, err)
		}
		times[i] = at
	}
	return times, nil
}

// kindsOf reads a list of kinds, of which all have to be switched on.
func kindsOf(cfg *config.Config, names []string) ([]mapper.Kind, error) {
	on := map[mapper.Kind]bool{
		mapper.KindChange: cfg.Events.Change.Enabled, mapper.KindExport: cfg.Events.Export.Enabled,
		mapper.KindAccessedEverything: cfg.Events.AccessedEverything.Enabled,
	}
	var kinds []mapper.Kind
	for _, name := range names {
		kind := mapper.Kind(name)
		switch enabled, known := on[kind]; {
		case !known:
			return nil, &usageError{fmt.Sprintf("--kinds %q is none of change, export, accessed_everything", name)}
		case !enabled:
			return nil, &usageError{fmt.Sprintf("--kinds %s: the configuration has events.%s.enabled: false", name, name)}
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

// commandLog is the log of a command that an operator waits for: what is retried and
// why, and nothing else unless the configuration asks for more.
func commandLog(cfg *config.Config, stderr io.Writer) (*zap.Logger, error) {
	c := cfg.Log
	if c.Level == config.Default().Log.Level {
		c.Level = "warn"
	}
	return newLogger(c, stderr)
}

// closing runs close with a time of its own, after ctx may have ended, and keeps the
// first error.
func closing(ctx context.Context, close func(context.Context) error, err *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), disconnectTimeout)
	defer cancel()
	if e := close(ctx); e != nil && *err == nil {
		*err = fmt.Errorf("disconnect: %w", e)
	}
}

// at is a time as the oplog has it.
func at(t time.Time) bson.Timestamp { return bson.Timestamp{T: uint32(t.Unix())} }
