package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// KafkaCluster is a Kafka of several brokers, whose partitions, internal ones too, have
// a replica on each: for coordinators and leaders that move.
type KafkaCluster struct {
	// Brokers are the host:port addresses of all brokers.
	Brokers []string
	// Nodes are the brokers by their node ids, from 1. Of three or more each is also a
	// controller, so that any one may go, and what is written is on two of them at least.
	// Of fewer node 1 alone is a controller: without it no other broker takes over.
	Nodes map[int32]*Kafka
}

// smallestQuorum is the fewest controllers of which one may go.
const smallestQuorum = 3

// kafkaNode is a broker's place in a cluster.
type kafkaNode struct {
	number   int
	voters   string // all controllers, as their property has them
	controls bool
	ports    []int
	release  func()
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
	c := ForTest(t, "a Kafka cluster", func(ctx context.Context) (*KafkaCluster, error) { return StartKafkaCluster(ctx, n, opts) })
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
	if n >= smallestQuorum {
		properties["min.insync.replicas"] = "2"
		properties["transaction.state.log.min.isr"] = "2"
		// On a machine that is busy with much else controllers would vote for ever.
		properties["controller.quorum.election.timeout.ms"] = "2000"
		properties["controller.quorum.fetch.timeout.ms"] = "4000"
		properties["controller.quorum.request.timeout.ms"] = "4000"
	}
	maps.Copy(properties, opts.Properties)
	opts.Properties = properties
	nodes, err := kafkaNodes(n, opts)
	if err != nil {
		return nil, err
	}
	// Side by side: none is ready before most controllers are there.
	started := make([]*Kafka, n)
	var g errgroup.Group
	for i, node := range nodes {
		opts := opts
		opts.node = node
		g.Go(func() (err error) {
			started[i], err = kafkaFromPackages(ctx, opts)
			return err
		})
	}
	err = g.Wait()
	c := &KafkaCluster{Nodes: map[int32]*Kafka{}}
	for i, k := range started {
		if k != nil {
			c.Nodes[int32(i+1)] = k
			c.Brokers = append(c.Brokers, k.Brokers...)
		}
	}
	if err == nil {
		err = c.WaitForAll(ctx)
	}
	if err != nil {
		for _, node := range nodes {
			node.release()
		}
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// kafkaNodes are the places in a cluster of n brokers. Their ports are known before any
// of them starts: each is told all controllers'.
func kafkaNodes(n int, opts KafkaOptions) ([]*kafkaNode, error) {
	var nodes []*kafkaNode
	var voters []string
	for number := 1; number <= n; number++ {
		ports, release, err := reservePorts(opts.ports())
		if err != nil {
			for _, node := range nodes {
				node.release()
			}
			return nil, err
		}
		node := &kafkaNode{number: number, controls: n >= smallestQuorum || number == 1, ports: ports, release: release}
		nodes = append(nodes, node)
		if node.controls {
			voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", number, newKafkaPorts(ports).controller))
		}
	}
	for _, node := range nodes {
		node.voters = strings.Join(voters, ",")
	}
	return nodes, nil
}

// Controller is the node that is the active controller now. What a broker says in its
// metadata is any broker that passes such requests on.
func (c *KafkaCluster) Controller(ctx context.Context) (int32, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...))
	if err != nil {
		return 0, fmt.Errorf("make client: %w", err)
	}
	defer client.Close()
	request := kmsg.NewPtrDescribeQuorumRequest()
	topic := kmsg.NewDescribeQuorumRequestTopic()
	topic.Topic = "__cluster_metadata"
	topic.Partitions = append(topic.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return 0, fmt.Errorf("ask for the active controller: %w", err)
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("ask for the active controller: error code %d", response.ErrorCode)
	}
	leader := response.Topics[0].Partitions[0].LeaderID
	if c.Nodes[leader] == nil {
		return 0, fmt.Errorf("ask for the active controller: it is %d", leader)
	}
	return leader, nil
}

// WaitForAll waits until the controller lets all brokers carry partitions.
func (c *KafkaCluster) WaitForAll(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer client.Close()
	return poll(ctx, func() (bool, error) {
		// kadm would answer from what the client knows, which is up to 5 minutes old.
		request := kmsg.NewPtrMetadataRequest()
		request.Topics = []kmsg.MetadataRequestTopic{}
		metadata, err := request.RequestWith(ctx, client)
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
