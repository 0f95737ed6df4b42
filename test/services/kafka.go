package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka is a running Kafka: one node, broker and controller in one.
type Kafka struct {
	*Server
	// Brokers are the host:port addresses of the plain listener.
	Brokers []string
	// Listeners has the host:port address of each of KafkaOptions.Listeners, by
	// its name.
	Listeners map[string]string

	controller int // its port
}

// KafkaOptions say what a test needs. The zero value is a broker with the
// product's defaults, which may be shared with others; see Properties for the
// exceptions.
type KafkaOptions struct {
	// NeedControl asks for a broker that can be stopped and killed, and is
	// nobody else's: an address from the environment is not used. Every other
	// field but Progress implies it.
	NeedControl bool
	// TransactionVersion is the level of the feature transaction.version; 0 is
	// the release's default (2). 1 is the protocol before KIP-890.
	TransactionVersion int
	// Properties are further lines of the broker's configuration. They win over
	// what is set here: topics are not created by themselves, the internal
	// topics have one replica and four partitions, group rebalances start at
	// once, a broker's session lasts 4 s. A performance test sets add.partitions.to.txn.retry.backoff.ms here.
	Properties map[string]string
	// Listeners are listeners beside the plain one. Their keystores and logins
	// go into Properties (listener.name.<name in lower case>.…).
	Listeners []KafkaListener
	// SystemProperties are properties of the Java machine, such as
	// org.apache.kafka.sasl.oauthbearer.allowed.urls. Not with containers.
	SystemProperties map[string]string
	// HeapMB is the broker's heap in MB; default 512.
	HeapMB int
	// Progress, if set, is told what is being downloaded or started.
	Progress func(string)

	// number is the node's, and first the node of the cluster that is the controller;
	// 0 and nil for a cluster of one node.
	number int
	first  *Kafka
}

// KafkaListener is one more listener of the broker, on a loopback port.
type KafkaListener struct {
	// Name is the listener's name, in upper case: "SASL".
	Name string
	// Protocol is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
	Protocol string
	// Advertise is the host:port that clients of this listener are told to come
	// to, such as that of a proxy; empty: the listener's own.
	Advertise string
}

func (o KafkaOptions) needsOwn() bool {
	return o.NeedControl || o.TransactionVersion != 0 || len(o.Properties) > 0 || len(o.Listeners) > 0 || len(o.SystemProperties) > 0 || o.HeapMB != 0
}

// heap is the Java machine's argument for its memory.
func (o KafkaOptions) heap() string {
	if o.HeapMB == 0 {
		o.HeapMB = 512
	}
	return fmt.Sprintf("-Xmx%dm", o.HeapMB)
}

// javaArguments are the arguments of the Java machine.
func (o KafkaOptions) javaArguments() []string {
	args := []string{o.heap()}
	for _, name := range slices.Sorted(maps.Keys(o.SystemProperties)) {
		args = append(args, "-D"+name+"="+o.SystemProperties[name])
	}
	return args
}

func (o KafkaOptions) progress(what string) {
	if o.Progress != nil {
		o.Progress(what)
	}
}

// StartKafka returns a Kafka that answers. ctx bounds the start, downloads
// included, not the broker's life. The error wraps ErrUnavailable if this
// machine can't give the broker.
func StartKafka(ctx context.Context, opts KafkaOptions) (*Kafka, error) {
	return fromFirst(ctx, "Kafka", map[string]func(context.Context) (*Kafka, error){
		sourceEnv:      func(ctx context.Context) (*Kafka, error) { return kafkaFromEnv(ctx, opts) },
		sourceDocker:   func(ctx context.Context) (*Kafka, error) { return kafkaFromDocker(ctx, opts) },
		sourcePackages: func(ctx context.Context) (*Kafka, error) { return kafkaFromPackages(ctx, opts) },
	})
}

func kafkaFromEnv(ctx context.Context, opts KafkaOptions) (*Kafka, error) {
	brokers := os.Getenv(EnvKafkaBrokers)
	switch {
	case brokers == "":
		return nil, unavailable("%s is not set", EnvKafkaBrokers)
	case opts.needsOwn():
		return nil, unavailable("a broker of its own is needed, %s is not used", EnvKafkaBrokers)
	}
	k := &Kafka{Server: &Server{}, Brokers: strings.Split(brokers, ",")}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := answers(ctx, k.Brokers); err != nil {
		return nil, fmt.Errorf("use %s: %w", EnvKafkaBrokers, err)
	}
	return k, nil
}

// answers returns nil if a broker answers a metadata request and names itself
// and the controller, without which no topic can be created.
func answers(ctx context.Context, brokers []string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // the client retries refused connections by itself
	defer cancel()
	metadata, err := kadm.NewClient(client).BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("ask for metadata: %w", err)
	}
	if len(metadata.Brokers) == 0 || metadata.Controller < 0 {
		return errors.New("ask for metadata: no broker or no controller yet")
	}
	return nil
}
