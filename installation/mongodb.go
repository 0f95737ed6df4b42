package installation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/fhir-cdc/fhir-cdc/config"
	"github.com/fhir-cdc/fhir-cdc/majority"
	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/servererror"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/watcher"
)

// ServerSelection is how long an operation looks for a usable server before it
// fails and is tried again. The driver's own 30 s would hide an outage from the
// log for as long; a URI may set serverSelectionTimeoutMS.
const ServerSelection = 10 * time.Second

// Clients holds one MongoDB client for each URI. It may be used by several goroutines.
type Clients struct {
	name    string
	mu      sync.Mutex
	clients map[config.Secret]*mongo.Client
	// Outdated, if set, is called when a client can be of no use any more.
	Outdated func()
	// Idle is how long a connection that is not used is kept; 0 is for ever.
	Idle time.Duration
}

// NewClients makes no client yet. On the servers they go by the name.
func NewClients(name string) *Clients {
	return &Clients{name: name, clients: map[config.Secret]*mongo.Client{}}
}

// Client returns the client of a URI. It does not connect yet.
func (c *Clients) Client(uri config.Secret) (*mongo.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client, ok := c.clients[uri]; ok {
		return client, nil
	}
	o := clientOptions(c.name, uri)
	if c.Outdated != nil {
		o.SetServerMonitor(monitor(c.Outdated))
	}
	if c.Idle > 0 {
		o.SetMaxConnIdleTime(c.Idle)
	}
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, fmt.Errorf("MongoDB client for %s: %w", config.RedactURI(uri.Reveal()), err)
	}
	c.clients[uri] = client
	return client, nil
}

// clientOptions are those of a URI's client.
func clientOptions(name string, uri config.Secret) *options.ClientOptions {
	o := options.Client().
		SetServerSelectionTimeout(ServerSelection).
		SetAppName("fhir-cdc/" + name).
		ApplyURI(uri.Reveal())
	// A time limit on operations would end a change stream that waits for changes.
	o.Timeout = nil
	// The FHIR server may run with another one. Change streams have no other, and what is
	// published must not be rolled back.
	o.ReadConcern = readconcern.Majority()
	return o
}

// DisconnectTimeout bounds what is done at the end, after the command or the daemon was told
// to stop.
const DisconnectTimeout = 5 * time.Second

// Disconnect closes the clients, also after ctx has ended. Its error goes to err, unless
// there is one.
func (c *Clients) Disconnect(ctx context.Context, err *error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), DisconnectTimeout)
	defer cancel()
	for _, client := range c.clients {
		if e := client.Disconnect(ctx); e != nil && *err == nil {
			*err = fmt.Errorf("disconnect from MongoDB: %w", e)
		}
	}
}

// Reach makes sure that a MongoDB answers and takes the login, within serverSelection.
func (c *Clients) Reach(ctx context.Context, place config.Cluster) error {
	client, err := c.Client(place.URI)
	if err != nil {
		return err
	}
	at := config.RedactURI(place.URI.Reveal())
	defer terminal.Waits(ctx, strings.TrimSuffix("MongoDB at "+hosts(at), " at "))()
	err = client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if refused := watcher.LoginRefused(err); refused != nil {
		return fmt.Errorf("MongoDB at %s: %w", at, refused)
	}
	return fmt.Errorf("MongoDB at %s: %w", at, &unreachableError{err, place.URI})
}

// hosts are those of a connection string that hides its secrets, without its options.
func hosts(uri string) string {
	_, uri, _ = strings.Cut(uri, "://")
	uri = uri[strings.LastIndex(uri, "@")+1:]
	return uri[:strings.IndexAny(uri+"/", "/?")]
}

// ReachAll makes sure that the clusters of a stream, "" for all, and of look-ups answer and
// take the login. A command calls it first: its work would look for a missing server again
// and again.
func (o *Installation) ReachAll(ctx context.Context, stream string) error {
	asked := map[config.Secret]bool{}
	for _, p := range o.Plan {
		if asked[p.Place.URI] || (stream != "" && stream != p.Name) {
			continue
		}
		asked[p.Place.URI] = true
		if err := o.Clients.Reach(ctx, p.Place); err != nil {
			return fmt.Errorf("stream %s: %w", p.Name, err)
		}
	}
	return o.reachFacts(ctx)
}

// reachFacts makes sure that the clusters of the look-ups answer and take the login:
// a stream may well lie elsewhere.
func (o *Installation) reachFacts(ctx context.Context) error {
	cfg := o.Config
	if requests, links := historyWanted(cfg); requests || links || cfg.Events.PersonDataChange.Enabled {
		if err := o.Clients.Reach(ctx, cfg.MongoDB.HistoryCluster()); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	if cfg.Events.AccessedEverything.Enabled {
		if err := o.Clients.Reach(ctx, cfg.MongoDB.Main()); err != nil {
			return fmt.Errorf("persons: %w", err)
		}
	}
	return nil
}

// unreachableError says in few words why no server answers.
type unreachableError struct {
	err error
	uri config.Secret
}

// Error leaves out the driver's description of the whole topology.
func (e *unreachableError) Error() string {
	known, ok := servererror.NoServer(e.err)
	if !ok {
		return e.err.Error()
	}
	for _, server := range known.Servers {
		if server.Err != nil {
			return fmt.Sprintf("no usable server: %v%s", server.Err, e.hint(server.Err))
		}
	}
	return "no usable server (is one the primary, and does the replica set have the URI's name?)"
}

// hint says what may be wrong where a server takes a connection and closes it: mongod does that
// to a client that speaks TLS and is not asked to, and to one that does not and is.
func (e *unreachableError) hint(err error) string {
	switch {
	case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
		return ""
	case servererror.TLS(e.uri.Reveal()):
		return " (it closes the connection: does it speak TLS, which the connection string asks for? Without, set tls=false)"
	}
	return " (it closes the connection: does it ask for TLS? Then set tls=true in the connection string)"
}

// Unwrap returns the driver's error.
func (e *unreachableError) Unwrap() error { return e.err }

// Readable reads a document of a collection.
func (c *Clients) Readable(ctx context.Context, at Collection) error {
	client, err := c.Client(at.Place.URI)
	if err != nil {
		return err
	}
	if err := majority.Readable(ctx, client.Database(at.Database).Collection(at.Collection), "fhir-cdc/look"); err != nil {
		return unreadable(err, at.Place, at.String())
	}
	return nil
}

// Collection is a collection that is read apart from the change stream.
type Collection struct {
	Place config.Cluster
	mapper.Namespace
}

// unreadable says why a collection cannot be read.
func unreadable(err error, place config.Cluster, namespace string) error {
	at := config.RedactURI(place.URI.Reveal())
	switch refused := watcher.LoginRefused(err); {
	case servererror.LacksRight(err):
		refused.Hint = "give the user the right (docs/security.md), or switch off what needs it"
		refused.Err = fmt.Errorf("the role needs find on %s: %w", namespace, servererror.Coded(err))
		return fmt.Errorf("MongoDB at %s: %w", at, refused)
	case refused != nil:
		return fmt.Errorf("MongoDB at %s: %w", at, refused)
	}
	return fmt.Errorf("MongoDB at %s: %w", at, &unreachableError{err, place.URI})
}
