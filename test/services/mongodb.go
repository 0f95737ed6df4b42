package services

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
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

// alreadyInitialized is the server's error code for a replica set that exists.
const alreadyInitialized = 23

// mongoDBFromPackages starts mongod as a process.
func mongoDBFromPackages(ctx context.Context, opts MongoDBOptions) (*MongoDB, error) {
	p, port, err := mongodProcess(ctx, opts)
	if err != nil {
		return nil, err
	}
	opts.progress(fmt.Sprintf("starting MongoDB %s on port %d", download.MongoDBVersion, port))
	return startMongoDB(ctx, p, opts, loopback, port)
}

// mongodProcess prepares a mongod on a free port.
func mongodProcess(ctx context.Context, opts MongoDBOptions) (*process, int, error) {
	program, err := download.MongoDB(ctx, opts.progress)
	if err != nil {
		return nil, 0, err
	}
	ports, release, err := reservePorts(1)
	if err != nil {
		return nil, 0, err
	}
	dir, err := os.MkdirTemp("", "fhir-cdc-mongodb-")
	if err != nil {
		release()
		return nil, 0, fmt.Errorf("make folder: %w", err)
	}
	p := &process{dir: dir, data: opts.Dir, release: release}
	if p.data == "" {
		p.data = filepath.Join(dir, "data")
	}
	args := []string{program, "--dbpath", p.data, "--bind_ip", loopback, "--nounixsocket"}
	if opts.Auth {
		keyFile := filepath.Join(dir, "keyfile")
		if err := os.WriteFile(keyFile, []byte(secret()), 0o600); err != nil {
			release()
			return nil, 0, fmt.Errorf("write key file: %w", err)
		}
		args = append(args, "--auth")
		if !opts.Standalone {
			args = append(args, "--keyFile", keyFile)
		}
	}
	p.argv = append(args, mongodArgs(opts, ports[0])...)
	if err := os.MkdirAll(p.data, 0o700); err != nil {
		release()
		return nil, 0, fmt.Errorf("make data folder: %w", err)
	}
	return p, ports[0], nil
}

// mongodArgs are the arguments that do not depend on the source.
func mongodArgs(opts MongoDBOptions, port int) []string {
	if opts.OplogMB == 0 {
		opts.OplogMB = 990 // not mongod's default, 5 % of the disk
	}
	if opts.CacheGB == 0 {
		opts.CacheGB = 0.5 // not mongod's default, half of the memory: tests run side by side
	}
	args := []string{
		"--port", strconv.Itoa(port),
		"--wiredTigerCacheSizeGB", strconv.FormatFloat(opts.CacheGB, 'f', -1, 64),
		"--setParameter", "diagnosticDataCollectionEnabled=false",
	}
	if !opts.Standalone {
		args = append(args, "--replSet", replicaSet, "--oplogSize", strconv.Itoa(opts.OplogMB))
	}
	if opts.TestCommands {
		args = append(args, "--setParameter", "enableTestCommands=1")
	}
	return append(args, opts.Args...)
}

// startMongoDB starts inst, which listens on host:port, and makes it a replica
// set whose only member is that address.
func startMongoDB(ctx context.Context, inst instance, opts MongoDBOptions, host string, port int) (*MongoDB, error) {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	uri := url.URL{Scheme: "mongodb", Host: address, Path: "/"}
	query := url.Values{}
	switch {
	case opts.Standalone, host != "127.0.0.1":
		// The member's address in the replica set is a loopback one, which only
		// holds on the server's own machine.
		query.Set("directConnection", "true")
	default:
		query.Set("replicaSet", replicaSet)
	}
	direct := options.Client().SetHosts([]string{address}).SetDirect(true).SetServerSelectionTimeout(time.Second)
	if opts.TLS != nil {
		direct.SetTLSConfig(opts.TLS)
	}
	m := &MongoDB{Server: &Server{inst: inst}}
	m.ready = func(ctx context.Context) error {
		if err := listens(ctx, address); err != nil {
			return err
		}
		return withClient(direct, func(c *mongo.Client) error {
			if !opts.Standalone {
				if err := initiate(ctx, c, setOf(replicaSet, net.JoinHostPort(loopback, strconv.Itoa(port)))); err != nil {
					return err
				}
			}
			return isWritablePrimary(ctx, c)
		})
	}
	err := m.Start(ctx)
	if err == nil && opts.Auth {
		var login *url.Userinfo
		if login, err = createUser(ctx, direct); err == nil {
			uri.User = login
			query.Set("authSource", "admin")
			m.ready = func(ctx context.Context) error { // initiate would need the login from now on
				return withClient(direct, func(c *mongo.Client) error { return isWritablePrimary(ctx, c) })
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, m.close(ctx.Err() == nil)) // whoever gave up does not read the log
	}
	uri.RawQuery = query.Encode()
	m.URI = uri.String()
	return m, nil
}

// listens returns nil if connections are accepted. The driver would find that
// out too, but looks twice a second only.
func listens(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// setOf is the configuration of a replica set of members.
func setOf(name string, members ...string) bson.D {
	var list bson.A
	for i, host := range members {
		list = append(list, bson.D{{Key: "_id", Value: i}, {Key: "host", Value: host}})
	}
	return bson.D{{Key: "_id", Value: name}, {Key: "members", Value: list}}
}

// initiate makes the server a replica set, one of whose members it is; nothing happens
// if it is one.
func initiate(ctx context.Context, client *mongo.Client, set bson.D) error {
	err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "replSetInitiate", Value: set}}).Err()
	var refused mongo.ServerError
	if errors.As(err, &refused) && refused.HasErrorCode(alreadyInitialized) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("initiate replica set: %w", err)
	}
	return nil
}

// createUser uses the server's exception for the first user, which may be
// created from the server's own machine without a login.
func createUser(ctx context.Context, direct *options.ClientOptions) (*url.Userinfo, error) {
	const name = "root"
	password := secret()
	err := withClient(direct, func(c *mongo.Client) error {
		return c.Database("admin").RunCommand(ctx, bson.D{
			{Key: "createUser", Value: name},
			{Key: "pwd", Value: password},
			{Key: "roles", Value: bson.A{"root"}},
		}).Err()
	})
	if err != nil {
		return nil, fmt.Errorf("create user: %w", err)
	}
	return url.UserPassword(name, password), nil
}

// secret is a random password, also valid as the content of a key file.
func secret() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
