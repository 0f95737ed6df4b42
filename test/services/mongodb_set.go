package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// ReplicaSet is a MongoDB replica set of several members, for elections.
type ReplicaSet struct {
	// URI is the connection string that names all members.
	URI     string
	members map[string]*Server // by host:port
}

// StartReplicaSet returns a replica set of n members that has a primary. They are
// processes, also where containers are preferred: members have to reach each other
// under the addresses that their clients use. Of the options Standalone, Auth and Dir
// have no meaning here.
func StartReplicaSet(ctx context.Context, n int, opts MongoDBOptions) (*ReplicaSet, error) {
	return fromFirst(ctx, "MongoDB replica set", map[string]func(context.Context) (*ReplicaSet, error){
		sourceEnv: func(context.Context) (*ReplicaSet, error) {
			return nil, unavailable("a replica set of its own is needed")
		},
		sourceDocker: func(context.Context) (*ReplicaSet, error) {
			return nil, unavailable("no containers of a replica set")
		},
		sourcePackages: func(ctx context.Context) (*ReplicaSet, error) { return replicaSetFromPackages(ctx, n, opts) },
	})
}

// ReplicaSetForTest gives a test a replica set as MongoDBForTest gives a server.
func ReplicaSetForTest(t testing.TB, n int, opts MongoDBOptions) *ReplicaSet {
	t.Helper()
	r := ForTest(t, "a MongoDB replica set", func(ctx context.Context) (*ReplicaSet, error) { return StartReplicaSet(ctx, n, opts) })
	t.Cleanup(func() {
		for address, m := range r.members {
			closeForTest(t, "MongoDB "+address, m)
		}
	})
	return r
}

func replicaSetFromPackages(ctx context.Context, n int, opts MongoDBOptions) (*ReplicaSet, error) {
	r := &ReplicaSet{members: map[string]*Server{}}
	var addresses []string
	for range n {
		p, port, err := mongodProcess(ctx, opts)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		address := net.JoinHostPort(loopback, strconv.Itoa(port))
		addresses = append(addresses, address)
		r.members[address] = &Server{inst: p, ready: func(ctx context.Context) error { return listens(ctx, address) }}
		if err := r.members[address].Start(ctx); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	uri := url.URL{Scheme: "mongodb", Host: strings.Join(addresses, ","), Path: "/", RawQuery: "replicaSet=" + replicaSet}
	r.URI = uri.String()
	first := options.Client().SetHosts(addresses[:1]).SetDirect(true).SetServerSelectionTimeout(time.Second)
	err := withClient(first, func(c *mongo.Client) error { return initiate(ctx, c, setOf(replicaSet, addresses...)) })
	if err == nil {
		err = r.WaitForAll(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// member is one of the set as its status shows it.
type member struct {
	Name  string `bson:"name"`
	State string `bson:"stateStr"`
}

const statePrimary, stateSecondary = "PRIMARY", "SECONDARY"

// status asks the first member that answers.
func (r *ReplicaSet) status(ctx context.Context) ([]member, error) {
	var status struct {
		Members []member `bson:"members"`
	}
	o := options.Client().ApplyURI(r.URI).SetServerSelectionTimeout(time.Second)
	err := withClient(o, func(c *mongo.Client) error {
		return c.Database("admin").RunCommand(ctx, bson.D{{Key: "replSetGetStatus", Value: 1}}).Decode(&status)
	})
	if err != nil {
		return nil, fmt.Errorf("status of the replica set: %w", err)
	}
	return status.Members, nil
}

// WaitForAll waits until one member is the primary and every other a secondary.
func (r *ReplicaSet) WaitForAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var last error
	err := poll(ctx, func() (bool, error) {
		members, err := r.status(ctx)
		if last = err; err != nil {
			return false, nil
		}
		states := map[string]int{}
		for _, m := range members {
			states[m.State]++
		}
		if states[statePrimary] != 1 || states[stateSecondary] != len(r.members)-1 {
			last = fmt.Errorf("members are %v", members)
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the replica set: %w", errors.Join(err, last))
	}
	return nil
}

// Primary is the member that takes writes now.
func (r *ReplicaSet) Primary(ctx context.Context) (*Server, error) {
	name, err := r.primary(ctx)
	return r.members[name], err
}

// PrimaryURI is the connection string of that member alone: its oplog is its own.
func (r *ReplicaSet) PrimaryURI(ctx context.Context) (string, error) {
	name, err := r.primary(ctx)
	uri := url.URL{Scheme: "mongodb", Host: name, Path: "/", RawQuery: "directConnection=true"}
	return uri.String(), err
}

func (r *ReplicaSet) primary(ctx context.Context) (string, error) {
	members, err := r.status(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range members {
		if m.State == statePrimary {
			return m.Name, nil
		}
	}
	return "", fmt.Errorf("no primary: %v", members)
}

// Members are the members' servers, in the order of their addresses.
func (r *ReplicaSet) Members() []*Server {
	var members []*Server
	for _, address := range slices.Sorted(maps.Keys(r.members)) {
		members = append(members, r.members[address])
	}
	return members
}

// ElectAfter sets after how long without a primary the members elect another: 10 s by
// default, which makes a test of many elections long.
func (r *ReplicaSet) ElectAfter(ctx context.Context, d time.Duration) error {
	return withClient(options.Client().ApplyURI(r.URI), func(c *mongo.Client) error {
		admin := c.Database("admin")
		var current struct{ Config bson.M }
		if err := admin.RunCommand(ctx, bson.D{{Key: "replSetGetConfig", Value: 1}}).Decode(&current); err != nil {
			return fmt.Errorf("read the set's configuration: %w", err)
		}
		version, ok := current.Config["version"].(int32)
		if !ok {
			return fmt.Errorf("read the set's configuration: version %v", current.Config["version"])
		}
		current.Config["version"] = version + 1
		settings, ok := current.Config["settings"].(bson.D)
		if !ok {
			return fmt.Errorf("read the set's configuration: settings %v", current.Config["settings"])
		}
		for i := range settings { // the others are the set's own
			if settings[i].Key == "electionTimeoutMillis" {
				settings[i].Value = d.Milliseconds()
			}
		}
		if err := admin.RunCommand(ctx, bson.D{{Key: "replSetReconfig", Value: current.Config}}).Err(); err != nil {
			return fmt.Errorf("configure the set: %w", err)
		}
		return nil
	})
}

// stepDownTime is how long a member that has stepped down is not elected again.
const stepDownTime = 10 * time.Second

// StepDown has the primary step down, so that another member is elected. It returns
// when it has stepped down.
func (r *ReplicaSet) StepDown(ctx context.Context) error {
	o := options.Client().ApplyURI(r.URI)
	return withClient(o, func(c *mongo.Client) error {
		var last error
		err := poll(ctx, func() (bool, error) {
			// It is refused while no secondary has caught up.
			last = c.Database("admin").RunCommand(ctx, bson.D{
				{Key: "replSetStepDown", Value: int(stepDownTime.Seconds())},
				{Key: "secondaryCatchUpPeriodSecs", Value: int(stepDownTime.Seconds()) / 2},
			}).Err()
			return last == nil, nil
		})
		if err != nil {
			return fmt.Errorf("step down: %w", errors.Join(err, last))
		}
		return nil
	})
}

// Close ends all members and deletes their data.
func (r *ReplicaSet) Close() error {
	var errs []error
	for _, m := range r.members {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
