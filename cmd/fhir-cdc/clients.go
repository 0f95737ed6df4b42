package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/config"
)

// serverSelection is how long an operation looks for a usable server before it
// fails and is tried again. The driver's own 30 s would hide an outage from the
// log for as long; a URI may set serverSelectionTimeoutMS.
const serverSelection = 10 * time.Second

// clusters holds one MongoDB client for each URI.
type clusters struct {
	name    string
	clients map[config.Secret]*mongo.Client
}

func newClusters(name string) *clusters {
	return &clusters{name: name, clients: map[config.Secret]*mongo.Client{}}
}

// client returns the client of a URI. It does not connect yet.
func (c *clusters) client(uri config.Secret) (*mongo.Client, error) {
	if client, ok := c.clients[uri]; ok {
		return client, nil
	}
	client, err := mongo.Connect(clientOptions(c.name, uri))
	if err != nil {
		return nil, fmt.Errorf("MongoDB client for %s: %w", config.RedactURI(uri.Reveal()), err)
	}
	c.clients[uri] = client
	return client, nil
}

// clientOptions are those of a URI's client.
func clientOptions(name string, uri config.Secret) *options.ClientOptions {
	o := options.Client().
		SetServerSelectionTimeout(serverSelection).
		SetAppName("fhir-cdc/" + name).
		ApplyURI(uri.Reveal())
	// A time limit on operations would end a change stream that waits for changes.
	o.Timeout = nil
	return o
}

func (c *clusters) close(ctx context.Context) error {
	var errs []error
	for _, client := range c.clients {
		errs = append(errs, client.Disconnect(ctx))
	}
	return errors.Join(errs...)
}
