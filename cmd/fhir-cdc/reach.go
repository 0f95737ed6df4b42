package main

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// reach makes sure that a MongoDB answers and takes the login, within serverSelection.
func (c *clusters) reach(ctx context.Context, place config.Cluster) error {
	client, err := c.client(place.URI)
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

// reachAll makes sure that the clusters of a stream, "" for all, and of look-ups answer
// and take the login, before a command begins with anything: what it does would look for a server
// again and again.
func (c *clusters) reachAll(ctx context.Context, cfg *config.Config, stream string) error {
	asked := map[config.Secret]bool{}
	for _, p := range planStreams(cfg) {
		if asked[p.place.URI] || (stream != "" && stream != p.name) {
			continue
		}
		asked[p.place.URI] = true
		if err := c.reach(ctx, p.place); err != nil {
			return fmt.Errorf("stream %s: %w", p.name, err)
		}
	}
	return c.reachFacts(ctx, cfg)
}

// reachFacts makes sure that the clusters of the look-ups answer and take the login:
// a stream may well lie elsewhere.
func (c *clusters) reachFacts(ctx context.Context, cfg *config.Config) error {
	if cfg.Facts.RequestID && cfg.Events.Change.Enabled {
		if err := c.reach(ctx, cfg.MongoDB.HistoryCluster()); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	if cfg.Events.AccessedEverything.Enabled {
		if err := c.reach(ctx, cfg.MongoDB.Main()); err != nil {
			return fmt.Errorf("persons: %w", err)
		}
	}
	return nil
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
