package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// Kafka is a running Kafka: one node, broker and controller in one.
type Kafka struct {
	*Server
	// Brokers are the host:port addresses of the plain listener.
	Brokers []string
	// Listeners has the host:port address of each of KafkaOptions.Listeners, by
	// its name.
	Listeners map[string]string
}

// KafkaOptions say what a test needs. The zero value is a broker with the
// product's defaults, which may be shared with others; see Properties for the
// exceptions.
type KafkaOptions struct {
	// NeedControl asks for a broker that can be stopped and killed, and is
	// nobody else's: an address from the environment is not used. Every other
	// field but Progress and Brief implies it.
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
	// Brief says that the broker does not live long enough for the optimising compiler and
	// the parallel collector to pay: a start takes a third less of the processors without
	// them. Tests' brokers are.
	Brief bool

	// node is its place in a cluster; nil for a cluster of one node.
	node *kafkaNode
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
	if o.Brief || testing.Testing() {
		args = append(args, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
	}
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

// kafkaLogging sends the broker's log to standard output, which is the log file.
const kafkaLogging = `rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
`

// kafkaFromPackages starts Kafka as a process.
func kafkaFromPackages(ctx context.Context, opts KafkaOptions) (*Kafka, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, unavailable("java is missing (Java 17 or newer, Debian package openjdk-17-jre-headless)")
	}
	libs, err := download.Kafka(ctx, opts.progress)
	if err != nil {
		return nil, err
	}
	var archived []string
	if testing.Testing() {
		archive, err := classArchive(ctx, java, libs)
		if err != nil {
			return nil, err
		}
		if archive != "" {
			archived = append(archived, "-XX:SharedArchiveFile="+archive)
		}
	}
	p, ports, err := kafkaProcess(ctx, opts, java, libs, archived...)
	if err != nil {
		return nil, err
	}
	opts.progress(fmt.Sprintf("starting Kafka %s on port %d", download.KafkaVersion, ports.plain))
	return startKafka(ctx, p, opts, loopback, ports)
}

// kafkaProcess prepares a broker. archived is the Java machine's argument for an archive of
// classes, if it is to write or read one.
func kafkaProcess(ctx context.Context, opts KafkaOptions, java, libs string, archived ...string) (*process, kafkaPorts, error) {
	reserved, release, err := opts.reserve()
	if err != nil {
		return nil, kafkaPorts{}, err
	}
	ports := newKafkaPorts(reserved)
	dir, err := os.MkdirTemp("", "fhir-cdc-kafka-")
	if err != nil {
		release()
		return nil, kafkaPorts{}, fmt.Errorf("make folder: %w", err)
	}
	p := &process{dir: dir, data: filepath.Join(dir, "data"), release: release}
	config := filepath.Join(dir, "server.properties")
	logging := filepath.Join(dir, "log4j2.properties")
	p.argv = slices.Concat([]string{java}, opts.javaArguments(), archived,
		[]string{"-Dlog4j2.configurationFile=" + logging, "-cp", filepath.Join(libs, "*"), "kafka.Kafka", config})
	err = errors.Join(
		os.WriteFile(config, []byte(propertiesFile(kafkaProperties(opts, loopback, loopback, ports, p.data))), 0o600),
		os.WriteFile(logging, []byte(kafkaLogging), 0o600),
	)
	if err == nil {
		err = formatKafka(ctx, java, libs, p.data, opts.number(), opts.TransactionVersion)
	}
	if err != nil {
		return nil, kafkaPorts{}, errors.Join(err, p.remove(false))
	}
	return p, ports, nil
}

// number is the node's id.
func (o KafkaOptions) number() int {
	if o.node == nil {
		return 1
	}
	return o.node.number
}

// reserve are a broker's ports: those of its place in a cluster, whose other nodes have
// been told of them, or any.
func (o KafkaOptions) reserve() (ports []int, release func(), err error) {
	if o.node != nil {
		return o.node.ports, o.node.release, nil
	}
	return reservePorts(o.ports())
}

// startKafka starts inst, whose listeners are reached at host.
func startKafka(ctx context.Context, inst instance, opts KafkaOptions, host string, ports kafkaPorts) (*Kafka, error) {
	k := &Kafka{
		Server:    &Server{inst: inst},
		Brokers:   []string{net.JoinHostPort(host, strconv.Itoa(ports.plain))},
		Listeners: map[string]string{},
	}
	for i, l := range opts.Listeners {
		k.Listeners[l.Name] = net.JoinHostPort(host, strconv.Itoa(ports.listeners[i]))
	}
	k.ready = func(ctx context.Context) error {
		if err := listens(ctx, k.Brokers[0]); err != nil {
			return err
		}
		return answers(ctx, k.Brokers)
	}
	if err := k.Start(ctx); err != nil {
		return nil, errors.Join(err, k.close(ctx.Err() == nil)) // whoever gave up does not read the log
	}
	return k, nil
}

// kafkaPorts are the ports of one broker; they are the same inside and outside
// of a container.
type kafkaPorts struct {
	plain, controller int
	listeners         []int // in the order of KafkaOptions.Listeners
}

// ports is how many a broker needs.
func (o KafkaOptions) ports() int { return 2 + len(o.Listeners) }

func newKafkaPorts(ports []int) kafkaPorts {
	return kafkaPorts{plain: ports[0], controller: ports[1], listeners: ports[2:]}
}

// kafkaProperties is the broker's configuration. It binds bind (empty: every
// address) and tells clients to come to host.
func kafkaProperties(opts KafkaOptions, bind, host string, ports kafkaPorts, logDir string) map[string]string {
	at := func(name, host string, port int) string {
		return name + "://" + net.JoinHostPort(host, strconv.Itoa(port))
	}
	listeners := []string{at("PLAINTEXT", bind, ports.plain), at("CONTROLLER", bind, ports.controller)}
	advertised := []string{at("PLAINTEXT", host, ports.plain)}
	protocols := []string{"PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"}
	for i, l := range opts.Listeners {
		listeners = append(listeners, at(l.Name, bind, ports.listeners[i]))
		if l.Advertise == "" {
			advertised = append(advertised, at(l.Name, host, ports.listeners[i]))
		} else {
			advertised = append(advertised, l.Name+"://"+l.Advertise)
		}
		protocols = append(protocols, l.Name+":"+l.Protocol)
	}
	properties := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        strconv.Itoa(opts.number()),
		"controller.quorum.voters":       fmt.Sprintf("1@127.0.0.1:%d", ports.controller),
		"controller.listener.names":      "CONTROLLER",
		"inter.broker.listener.name":     "PLAINTEXT",
		"listeners":                      strings.Join(listeners, ","),
		"advertised.listeners":           strings.Join(advertised, ","),
		"listener.security.protocol.map": strings.Join(protocols, ","),
		"log.dirs":                       logDir,
		"auto.create.topics.enable":      "false",
		// One node can hold one replica. Few partitions: their creation is most
		// of what the first transaction or group waits for.
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"share.coordinator.state.topic.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":                 "0",
		// A broker that comes back is let in when its former session has ended.
		// The defaults (9 s, 2 s) make every restart that long.
		"broker.session.timeout.ms":    "4000",
		"broker.heartbeat.interval.ms": "500",
		// The default writes a record that says nothing twice a second.
		"metadata.max.idle.interval.ms": "0",
		// The default, 128 MB, is a quarter of the heap that is given here.
		"log.cleaner.dedupe.buffer.size": "33554432",
	}
	if opts.node != nil {
		properties["controller.quorum.voters"] = opts.node.voters
		if !opts.node.controls {
			properties["process.roles"] = "broker"
			properties["listeners"] = strings.Join(slices.Delete(listeners, 1, 2), ",")
		}
	}
	maps.Copy(properties, opts.Properties)
	return properties
}

// propertiesFile is the text of a Java properties file.
func propertiesFile(properties map[string]string) string {
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&b, "%s=%s\n", key, escape.Replace(properties[key]))
	}
	return b.String()
}
