// Package installation makes the parts of an installation from its settings: the plan of its
// streams, the clients of MongoDB and Kafka, the publishers, and what repairs and replays read.
//
// It starts nothing by itself. A test needs no command to call it.
package installation

import (
	"context"
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// Installation has the parts that an operator's command works with.
type Installation struct {
	Config  *config.Config
	Clients *Clients
	Sink    *Sink
	Plan    []PlannedStream
	Log     *zap.Logger
}

// Open makes an installation's clients and publishers, which connect when they are used.
// Events of sink: stdout go to stdout.
func Open(cfg *config.Config, stdout io.Writer, log *zap.Logger) (*Installation, error) {
	clients := NewClients(cfg.Name)
	sink, err := newSink(cfg, clients, stdout, log)
	if err != nil {
		return nil, err // No client has connected.
	}
	return &Installation{Config: cfg, Clients: clients, Sink: sink, Plan: Plan(cfg), Log: log}, nil
}

// Stream finds a stream by its name.
func (o *Installation) Stream(name string) (PlannedStream, error) {
	var names []string
	for _, p := range o.Plan {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return PlannedStream{}, Usagef("unknown stream %q; with this configuration there are: %s", name, strings.Join(names, ", "))
}

// Watcher makes a stream's watcher, which is not connected yet.
func (o *Installation) Watcher(p PlannedStream) (*watcher.Watcher, error) {
	client, err := o.Clients.Client(p.Place.URI)
	if err != nil {
		return nil, err
	}
	w, _, err := Watchers(o.Config, client, p, mapper.New(p.Mapper), o.Log, nil)
	return w, err
}

// HaveTopics makes sure that the brokers can be reached and have what is required.
// It creates nothing: a command that looks must not.
func (o *Installation) HaveTopics(ctx context.Context, r publisher.Requirements) error {
	topics := o.Config.Topics
	r.Create, r.DaemonCreates = false, topics.Create
	r.Partitions, r.PositionPartitions, r.ReplicationFactor = topics.Partitions, topics.PositionPartitions, topics.ReplicationFactor
	return o.Sink.HaveTopics(ctx, r)
}

// Keeper is where a stream's position is kept, once it is known to be in reach: to be
// looked at, or also to be changed, which goes on record.
func (o *Installation) Keeper(ctx context.Context, p PlannedStream, toChange bool) (resumetoken.Keeper, error) {
	changed := ""
	if toChange {
		changed = p.Name
	}
	if err := o.ReachStore(ctx, changed); err != nil {
		return nil, err
	}
	return o.Sink.Store(p.Name)
}

// ReachStore makes sure that the home of positions can be read, and the position of a
// stream changed; "" for none.
func (o *Installation) ReachStore(ctx context.Context, changed string) error {
	needed := publisher.Requirements{}
	if !o.Config.KeepsPositions() {
		return Usagef("sink: stdout keeps no positions, unless checkpoint.store is mongodb or file")
	}
	if home, in := o.Config.PositionsInMongoDB(); in {
		if err := o.Clients.Reach(ctx, home); err != nil {
			return fmt.Errorf("positions: %w", err)
		}
	}
	if !o.Config.HasTopics() {
		return nil
	}
	if o.Config.PositionsInKafka() {
		needed.Positions = o.Config.Topics.Positions
	}
	if changed == "" {
		Requiring(&needed, ToRead(), needed.Positions)
	} else {
		needed.Audit = o.Config.Topics.Audit
		if needed.Positions != "" {
			needed.TransactionalIDs = []string{o.Config.Name + "/" + changed}
		}
	}
	if needed.Positions == "" && needed.Audit == "" {
		return nil
	}
	return o.HaveTopics(ctx, needed)
}
