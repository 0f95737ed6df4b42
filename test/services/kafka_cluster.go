package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaCluster is a Kafka of several brokers, whose partitions, internal ones too, have
// a replica on each: for coordinators and leaders that move.
type KafkaCluster struct {
	// Brokers are the host:port addresses of all brokers.
	Brokers []string
	// Nodes are the brokers by their node ids, from 1. Node 1 is also the controller:
	// without it no other broker takes over.
	Nodes map[int32]*Kafka
}

// StartKafkaCluster returns a cluster of n brokers. They are processes, also where
// containers are preferred: brokers have to reach each other under the addresses that
// their clients use.
func StartKafkaCluster(ctx context.Context, n int, opts KafkaOptions) (*KafkaCluster, error) {
	return fromFirst(ctx, "Kafka cluster", map[string]func(context.Context) (*KafkaCluster, error){
		sourceEnv: func(context.Context) (*KafkaCluster, error) {
			return nil, unavailable("a cluster of its own is needed")
		},
		sourceDocker: func(context.Context) (*KafkaCluster, error) {
			return nil, unavailable("no containers of a cluster")
		},
		sourcePackages: func(ctx context.Context) (*KafkaCluster, error) { return clusterFromPackages(ctx, n, opts) },
	})
}

// KafkaClusterForTest gives a test a cluster as KafkaForTest gives a broker.
func KafkaClusterForTest(t testing.TB, n int, opts KafkaOptions) *KafkaCluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startForTest)
	defer cancel()
	c, err := StartKafkaCluster(ctx, n, opts)
	check(t, err)
	t.Cleanup(func() {
		// The controller last: a broker that stops tells it so.
		for number := int32(n); number > 0; number-- {
			closeForTest(t, fmt.Sprintf("Kafka node %d", number), c.Nodes[number].Server)
		}
	})
	return c
}

func clusterFromPackages(ctx context.Context, n int, opts KafkaOptions) (*KafkaCluster, error) {
	properties := map[string]string{
		"default.replication.factor":               fmt.Sprint(n),
		"offsets.topic.replication.factor":         fmt.Sprint(n),
		"transaction.state.log.replication.factor": fmt.Sprint(n),
	}
	maps.Copy(properties, opts.Properties)
	opts.Properties = properties
	c := &KafkaCluster{Nodes: map[int32]*Kafka{}}
	for number := 1; number <= n; number++ {
		opts.number = number
		k, err := kafkaFromPackages(ctx, opts)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		if number == 1 {
			opts.first = k
		}
		c.Nodes[int32(number)] = k
		c.Brokers = append(c.Brokers, k.Brokers...)
	}
	if err := c.waitForAll(ctx); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// waitForAll waits until the controller lets all brokers carry partitions.
func (c *KafkaCluster) waitForAll(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	return poll(ctx, func() (bool, error) {
		metadata, err := admin.BrokerMetadata(ctx)
		return err == nil && len(metadata.Brokers) == len(c.Nodes), nil
	})
}

func (c *KafkaCluster) close() error {
	var errs []error
	for _, k := range c.Nodes {
		errs = append(errs, k.Close())
	}
	return errors.Join(errs...)
}
