package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
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

// midwayError is the failure of a command that may have published before it. It does not
// unwrap to what has failed: whatever that is, the exit code must not be the one that says
// that nothing has been published.
type midwayError struct{ err error }

// Error returns the message of the failure.
func (e *midwayError) Error() string { return e.err.Error() }

// Is tells of an interruption, which has no other exit code.
func (e *midwayError) Is(target error) bool {
	return target == errInterrupted && errors.Is(e.err, target)
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

// rest waits between two questions, or returns why ctx has ended.
func rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
