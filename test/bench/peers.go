package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/test/program"
	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// Peers are the two connectors that others carry change streams to Kafka with, each in a
// Kafka Connect of its own, tuned as well as we know: of a document they get what the plain
// loop gets, they read and send in large batches, and they compress. They write their own
// envelopes, so they do less than the daemon: nobody maps a change to an event.

// The versions that are measured.
const (
	debeziumVersion         = "3.6.1.Final"
	mongoDBConnectorVersion = "2.0.1"
)

const (
	nameMongoDBConnector = "MongoDB connector"
	nameDebezium         = "Debezium"
)

// peersTopic is how the name of a topic ends, because that is how peers name theirs.
const peersTopic = "." + database + "." + collection

// peer is another connector.
type peer struct {
	// name is that in tables, folder that of its jars.
	name, folder, version, size string
	// artifact is its group:artifact.
	artifact string
	// least is the number of its jars, or a little less.
	least int
	// settings are the connector's, for a task.
	settings func(peerTask) map[string]string
}

// peerTask is a task of a peer, as its process is told of it.
type peerTask struct {
	mongoDB, brokers string
	// prefix is the topic's name without peersTopic.
	prefix string
	// from is in Unix seconds.
	from int64
}

func peers() []peer {
	return []peer{
		{
			nameMongoDBConnector, "mongo-kafka-connect", mongoDBConnectorVersion, "41 MB", "org.mongodb.kafka:mongo-kafka-connect", 60,
			mongoDBConnectorSettings,
		},
		{nameDebezium, "debezium-mongodb", debeziumVersion, "40 MB", "io.debezium:debezium-connector-mongodb", 60, debeziumSettings},
	}
}

func mongoDBConnectorSettings(t peerTask) map[string]string {
	return map[string]string{
		"connector.class":             "com.mongodb.kafka.connect.MongoSourceConnector",
		"connection.uri":              t.mongoDB,
		"database":                    database,
		"collection":                  collection,
		"topic.prefix":                t.prefix,
		"change.stream.full.document": "updateLookup",
		"startup.mode":                "timestamp",
		"startup.mode.timestamp.start.at.operation.time": strconv.FormatInt(t.from, 10),
		"pipeline": projection(),
		// Texts are the fastest of what it writes that others can read.
		"key.converter":         "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":       "org.apache.kafka.connect.storage.StringConverter",
		"output.json.formatter": "com.mongodb.kafka.connect.source.json.formatter.SimplifiedJson",
		"poll.max.batch.size":   "8192",
		"poll.await.time.ms":    "5",
	}
}

func debeziumSettings(t peerTask) map[string]string {
	return map[string]string{
		"connector.class":                "io.debezium.connector.mongodb.MongoDbConnector",
		"mongodb.connection.string":      t.mongoDB,
		"collection.include.list":        database + "[.]" + collection,
		"topic.prefix":                   t.prefix,
		"snapshot.mode":                  "no_data",
		"capture.start.op.time":          strconv.FormatInt(t.from<<32, 10),
		"cursor.pipeline":                projection(),
		"key.converter":                  "org.apache.kafka.connect.json.JsonConverter",
		"value.converter":                "org.apache.kafka.connect.json.JsonConverter",
		"key.converter.schemas.enable":   "false",
		"value.converter.schemas.enable": "false",
		"max.batch.size":                 "8192",
		"max.queue.size":                 "32768",
		"poll.interval.ms":               "5",
		"statistics.metrics.enabled":     "false",
	}
}

// projection is the plain loop's stage, as a pipeline in JSON.
func projection() string {
	text, err := bson.MarshalExtJSON(bson.D{{Key: "$project", Value: needed()}}, false, false)
	if err != nil {
		panic(err) // a constant
	}
	return "[" + string(text) + "]"
}

// producerSettings are those of any peer's producer.
func producerSettings() map[string]string {
	return map[string]string{
		"producer.override.linger.ms":        "5",
		"producer.override.batch.size":       "524288",
		"producer.override.buffer.memory":    "134217728",
		"producer.override.compression.type": "lz4",
	}
}

// connectLogging sends what is worth knowing of a run that fails to standard error.
const connectLogging = `rootLogger.level=WARN
rootLogger.appenderRef.err.ref=err
appender.err.type=Console
appender.err.name=err
appender.err.target=SYSTEM_ERR
appender.err.layout.type=PatternLayout
appender.err.layout.pattern=%d %p %m (%c)%n%throwable{short}
`

// preparePeers gets the peers' jars.
func (b *bench) preparePeers(ctx context.Context) error {
	if _, err := exec.LookPath("java"); err != nil {
		return errors.New("java is missing, which the peers need (make setup FOR=test)")
	}
	b.jars = map[string]string{}
	for _, p := range peers() {
		dir, err := download.Jars(ctx, p.java(), func(what string) { b.say("%s", what) })
		if err != nil {
			return err
		}
		b.jars[p.name] = dir
	}
	return nil
}

// java is the peer with the Kafka Connect that it runs in.
func (p peer) java() download.Java {
	connect := func(part string) string { return "org.apache.kafka:connect-" + part + ":" + download.KafkaVersion }
	return download.Java{
		Name: p.folder, Version: p.version, Title: p.name, Size: p.size, Least: p.least,
		Artifacts: []string{connect("runtime"), connect("json"), p.artifact + ":" + p.version, download.Log4j},
	}
}

// peerContenders run a peer as a process: this program, which becomes Java when it has
// written the settings.
func (b *bench) peerContenders() []contender {
	var all []contender
	for _, p := range peers() {
		all = append(all, contender{p.name, func(t task) program.Command {
			return program.Command{Path: b.self, Dir: b.dir, Args: []string{
				"peer", "-name", p.name, "-jars", b.jars[p.name], "-mongo", b.mongoDB.URI, "-brokers", strings.Join(b.kafka.Brokers, ","),
				"-topic", t.topic, "-from", strconv.FormatInt(t.from.Unix(), 10),
			}}
		}})
	}
	return all
}

// runPeer is the child process of a peer.
func runPeer(args []string) error {
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	var t peerTask
	name := flags.String("name", "", "which")
	jars := flags.String("jars", "", "folder of its jars")
	topic := flags.String("topic", "", "topic")
	flags.StringVar(&t.mongoDB, "mongo", "", "connection string")
	flags.StringVar(&t.brokers, "brokers", "", "host:port,…")
	flags.Int64Var(&t.from, "from", 0, "Unix second to start at")
	if err := flags.Parse(args); err != nil {
		return err
	}
	t.prefix = strings.TrimSuffix(*topic, peersTopic)
	i := slices.IndexFunc(peers(), func(p peer) bool { return p.name == *name })
	if i < 0 {
		return fmt.Errorf("no peer is called %q", *name)
	}
	dir, err := filepath.Abs(*topic)
	if err != nil {
		return err
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return err
	}
	at := func(file string) string { return filepath.Join(dir, file) }
	worker := map[string]string{
		"bootstrap.servers":            t.brokers,
		"offset.storage.file.filename": at("offsets"),
		"listeners":                    "http://127.0.0.1:0",
		// A connector has converters of its own.
		"key.converter":   "org.apache.kafka.connect.storage.StringConverter",
		"value.converter": "org.apache.kafka.connect.storage.StringConverter",
	}
	connector := map[string]string{"name": peers()[i].folder, "tasks.max": "1"}
	maps.Copy(connector, producerSettings())
	maps.Copy(connector, peers()[i].settings(t))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for file, text := range map[string]string{"log4j2.properties": connectLogging, "worker": properties(worker), "connector": properties(connector)} {
		if err := os.WriteFile(at(file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return syscall.Exec(java, []string{
		java,
		"-Xms256M", "-Xmx2G", // what the script that comes with Kafka Connect gives it
		"-Dlog4j2.configurationFile=" + at("log4j2.properties"), "-cp", filepath.Join(*jars, "*"),
		"org.apache.kafka.connect.cli.ConnectStandalone", at("worker"), at("connector"),
	}, os.Environ())
}

// properties is the text of a file of settings. None of ours needs an escape.
func properties(settings map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s=%s\n", key, settings[key])
	}
	return b.String()
}

// documentOf is the document of run that a record is about. The peers' keys do not name it,
// but their values do.
func documentOf(r *kgo.Record, run string) (document, bool) {
	if d, ok := parseID(string(r.Key)); ok {
		return d, d.run == run
	}
	_, id, found := bytes.Cut(r.Value, []byte(`"b.`+run+"."))
	if !found {
		return document{}, false
	}
	id, _, _ = bytes.Cut(id, []byte(`"`))
	return parseID("b." + run + "." + string(id))
}
