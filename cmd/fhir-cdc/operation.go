package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// operation is what an operator's command works with.
type operation struct {
	cfg     *config.Config
	clients *clusters
	sink    *sink
	plan    []plannedStream
	log     *zap.Logger
}

// operate reads the configuration, runs do with what it says and disconnects. Only
// with log.level: debug is there a log; what a command has to say is its result or
// its error.
func operate(cmd *cobra.Command, flags *configFlags, stderr io.Writer, do func(context.Context, *operation) error) (err error) {
	cfg, err := flags.loadAloud(cmd)
	if err != nil {
		return err
	}
	log := zap.NewNop()
	if cfg.Log.Level == config.LogDebug {
		if log, err = newLogger(cfg.Log, stderr); err != nil {
			return err
		}
	}
	ctx := cmd.Context()
	clients := newClusters(cfg.Name)
	defer closing(ctx, clients.close, &err)
	sink, err := newSink(cfg, clients, io.Discard, log)
	if err != nil {
		return err
	}
	return do(ctx, &operation{cfg: cfg, clients: clients, sink: sink, plan: planStreams(cfg), log: log})
}

// errInterrupted is the end of a command by Ctrl-C.
var errInterrupted = errors.New("interrupted")

// interruptedEarly makes one clear error of whatever a command was doing when it was
// interrupted, unless it has already said how to go on.
func interruptedEarly(ctx context.Context, err error, left string) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, errInterrupted) {
		return err
	}
	return fmt.Errorf("%w; %s", errInterrupted, left)
}

// stream finds a stream by its name.
func (o *operation) stream(name string) (plannedStream, error) {
	var names []string
	for _, p := range o.plan {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return plannedStream{}, &usageError{fmt.Sprintf("unknown stream %q; with this configuration there are: %s", name, strings.Join(names, ", "))}
}

// watcher makes a stream's watcher, which is not connected yet.
func (o *operation) watcher(p plannedStream) (*watcher.Watcher, error) {
	client, err := o.clients.client(p.place.URI)
	if err != nil {
		return nil, err
	}
	w, _, err := watchers(o.cfg, client, p, mapper.New(p.mapper), o.log, nil)
	return w, err
}

// haveTopics makes sure that the brokers can be reached and have what is required.
// It creates nothing: a command that looks must not.
func (o *operation) haveTopics(ctx context.Context, r publisher.Requirements) (publisher.Report, error) {
	topics := o.cfg.Topics
	r.Create, r.Partitions, r.PositionPartitions, r.ReplicationFactor = false, topics.Partitions, topics.PositionPartitions, topics.ReplicationFactor
	report, err := publisher.CheckTopics(ctx, o.sink.kafka, r)
	if err != nil {
		return report, err
	}
	o.sink.partitions = report.Partitions
	return report, nil
}

// reach makes sure that a MongoDB answers and takes the login, within serverSelection.
func (o *operation) reach(ctx context.Context, place config.Cluster) error {
	client, err := o.clients.client(place.URI)
	if err != nil {
		return err
	}
	err = client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	at := config.RedactURI(place.URI.Reveal())
	if refused := watcher.LoginRefused(err); refused != nil {
		return fmt.Errorf("MongoDB at %s: %w", at, refused)
	}
	return fmt.Errorf("MongoDB at %s: %w", at, &unreachableError{err})
}

// unreachableError says in few words why no server answers.
type unreachableError struct{ err error }

// Error leaves out the driver's description of the whole topology.
func (e *unreachableError) Error() string {
	var selection topology.ServerSelectionError
	if !errors.As(e.err, &selection) {
		return e.err.Error()
	}
	for _, server := range selection.Desc.Servers {
		if server.LastError != nil {
			return fmt.Sprintf("no usable server: %v", server.LastError)
		}
	}
	return "no usable server (is one the primary, and does the replica set have the URI's name?)"
}

// Unwrap returns the driver's error.
func (e *unreachableError) Unwrap() error { return e.err }
