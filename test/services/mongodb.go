package services

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// replicaSet is the name of the replica set that is started here.
const replicaSet = "rs0"

// MongoDB is a running MongoDB: a replica set of one member, unless Standalone.
type MongoDB struct {
	*Server
	// URI is the connection string, with the credentials if Auth was asked for.
	URI string
}

// MongoDBOptions say what a test needs. The zero value is a replica set of one
// member without authentication, which may be shared with others.
type MongoDBOptions struct {
	// NeedControl asks for a server that can be stopped and killed, and is
	// nobody else's: an address from the environment is not used. Every other
	// field but Progress implies it.
	NeedControl bool
	// TestCommands allows failpoints (enableTestCommands).
	TestCommands bool
	// OplogMB is the size of the oplog in MB; default 990.
	OplogMB int
	// CacheGB is the storage engine's cache in GB; default 0.5, at least 0.25.
	CacheGB float64
	// Standalone starts without a replica set: no oplog, no change streams.
	Standalone bool
	// Auth requires a login. The URI carries the credentials of a user that may
	// do everything. Not with containers.
	Auth bool
	// TLS is for connecting to a server that Args make demand TLS; URI says nothing
	// of it. Not with containers.
	TLS *tls.Config
	// Dir is the folder of the data, kept by Close; default a temporary one,
	// deleted by Close. Not with containers.
	Dir string
	// Args are further arguments of mongod.
	Args []string
	// Progress, if set, is told what is being downloaded or started.
	Progress func(string)
}

func (o MongoDBOptions) needsOwn() bool {
	return o.NeedControl || o.TestCommands || o.OplogMB != 0 || o.CacheGB != 0 || o.Standalone || o.Auth || o.TLS != nil || o.Dir != "" || len(o.Args) > 0
}

func (o MongoDBOptions) progress(what string) {
	if o.Progress != nil {
		o.Progress(what)
	}
}

// StartMongoDB returns a MongoDB that accepts writes. ctx bounds the start,
// downloads included, not the server's life. The error wraps ErrUnavailable if
// this machine can't give the server.
func StartMongoDB(ctx context.Context, opts MongoDBOptions) (*MongoDB, error) {
	return fromFirst(ctx, "MongoDB", map[string]func(context.Context) (*MongoDB, error){
		sourceEnv:      func(ctx context.Context) (*MongoDB, error) { return mongoDBFromEnv(ctx, opts) },
		sourceDocker:   func(ctx context.Context) (*MongoDB, error) { return mongoDBFromDocker(ctx, opts) },
		sourcePackages: func(ctx context.Context) (*MongoDB, error) { return mongoDBFromPackages(ctx, opts) },
	})
}

func mongoDBFromEnv(ctx context.Context, opts MongoDBOptions) (*MongoDB, error) {
	uri := os.Getenv(EnvMongoDBURI)
	switch {
	case uri == "":
		return nil, unavailable("%s is not set", EnvMongoDBURI)
	case opts.needsOwn():
		return nil, unavailable("a server of its own is needed, %s is not used", EnvMongoDBURI)
	}
	err := withClient(options.Client().ApplyURI(uri), func(c *mongo.Client) error { return isWritablePrimary(ctx, c) })
	if err != nil {
		return nil, fmt.Errorf("use %s: %w", EnvMongoDBURI, err)
	}
	return &MongoDB{Server: &Server{}, URI: uri}, nil
}

// withClient runs do with a client that is closed afterwards.
func withClient(opts *options.ClientOptions, do func(*mongo.Client) error) error {
	client, err := mongo.Connect(opts)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	// A fresh context: the client must be closed also when the caller's has ended.
	defer func() { _ = client.Disconnect(context.Background()) }()
	return do(client)
}

// isWritablePrimary returns nil if writes are accepted. A standalone server
// says yes too. Ping is not enough: a member answers it before it is elected.
func isWritablePrimary(ctx context.Context, client *mongo.Client) error {
	var hello struct {
		IsWritablePrimary bool `bson:"isWritablePrimary"`
	}
	err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if !hello.IsWritablePrimary {
		return fmt.Errorf("hello: not a primary yet")
	}
	return nil
}
