package services

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// shardedNeedsImage is why a test of a sharded cluster is skipped.
const shardedNeedsImage = "a sharded cluster needs mongos, which only MongoDB's images have: make test MONGO_IMAGE=mongo:8"

// ShardedForTest gives a test a sharded cluster of two shards, by the address of its
// mongos. The test is skipped where no image of MongoDB is named.
func ShardedForTest(t testing.TB) *MongoDB {
	t.Helper()
	Needs(t, "a sharded MongoDB cluster")
	if os.Getenv(EnvMongoDBImage) == "" {
		t.Skip(shardedNeedsImage)
	}
	m := ForTest(t, "a sharded MongoDB cluster", startSharded)
	t.Cleanup(func() { closeForTest(t, "the sharded MongoDB cluster", m.Server) })
	return m
}

func startSharded(ctx context.Context) (*MongoDB, error) {
	return fromFirst(ctx, "sharded MongoDB cluster", map[string]func(context.Context) (*MongoDB, error){
		sourceEnv: func(context.Context) (*MongoDB, error) {
			return nil, unavailable("a cluster of its own is needed")
		},
		sourceDocker:   shardedFromDocker,
		sourcePackages: func(context.Context) (*MongoDB, error) { return nil, unavailable(shardedNeedsImage) },
	})
}

// shardedPart is a mongod of a sharded cluster, which is a replica set of its own.
type shardedPart struct{ set, role string }

// configServers are the set that holds the cluster's configuration.
const configServers = "config"

// shardedParts are the mongods in the order of their ports; the port of mongos is the last.
func shardedParts() []shardedPart {
	return []shardedPart{{configServers, "--configsvr"}, {"shard-a", "--shardsvr"}, {"shard-b", "--shardsvr"}}
}

// shardedCommand is what runs a whole cluster in one container, where its servers reach
// each other under the addresses that mongos is told.
func shardedCommand(ports []int) []string {
	script := ""
	for i, part := range shardedParts() {
		dir := "/data/db/" + part.set
		script += fmt.Sprintf("mkdir -p %s; mongod %s --replSet %s --dbpath %s --bind_ip_all", dir, part.role, part.set, dir)
		for _, arg := range mongodArgs(MongoDBOptions{
			Standalone: true, // the set has its own name
			CacheGB:    0.25,
			// An event of one shard waits for what the other says, which is this no-op if it is idle.
			Args: []string{"--oplogSize", "200", "--setParameter", "periodicNoopIntervalSecs=1"},
		}, ports[i]) {
			script += " " + arg
		}
		script += " &\n"
	}
	mongos := len(shardedParts())
	// It waits for the config server, which is initiated from outside.
	script += fmt.Sprintf("exec mongos --configdb %s/%s --bind_ip_all --port %d\n", configServers, inside(ports[0]), ports[mongos])
	return []string{"bash", "-c", script}
}

// inside is a server's address in the container.
func inside(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// startShardedCluster starts inst, which runs shardedCommand, and makes a cluster of its
// servers, which are reached at host.
func startShardedCluster(ctx context.Context, inst instance, host string, ports []int) (*MongoDB, error) {
	at := func(port int) *options.ClientOptions {
		return options.Client().SetHosts([]string{net.JoinHostPort(host, strconv.Itoa(port))}).SetDirect(true).SetServerSelectionTimeout(time.Second)
	}
	parts := shardedParts()
	mongos := ports[len(parts)]
	address := net.JoinHostPort(host, strconv.Itoa(mongos))
	m := &MongoDB{Server: &Server{inst: inst}, URI: "mongodb://" + address + "/"}
	m.ready = func(ctx context.Context) error {
		for i, part := range parts {
			set := setOf(part.set, inside(ports[i]))
			if part.set == configServers {
				set = append(set, bson.E{Key: "configsvr", Value: true})
			}
			if err := withClient(at(ports[i]), func(c *mongo.Client) error { return initiate(ctx, c, set) }); err != nil {
				return fmt.Errorf("%s: %w", part.set, err)
			}
		}
		if err := listens(ctx, address); err != nil {
			return err
		}
		return withClient(at(mongos), func(c *mongo.Client) error {
			for i, part := range parts[1:] {
				shard := part.set + "/" + inside(ports[i+1])
				if err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "addShard", Value: shard}}).Err(); err != nil {
					return fmt.Errorf("add %s: %w", shard, err)
				}
			}
			return nil
		})
	}
	if err := m.Start(ctx); err != nil {
		return nil, errors.Join(err, m.close(ctx.Err() == nil)) // as in startMongoDB
	}
	return m, nil
}
