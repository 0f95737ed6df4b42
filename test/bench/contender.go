package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/fhir-cdc/fhir-cdc/test/program"
)

// The names by which contenders stand in tables.
const (
	nameBare        = "bare change stream"
	nameLoop        = "plain Go loop"
	nameExactlyOnce = "fhir-cdc exactly_once"
	nameNoRest      = "exactly_once, no rest"
	nameAtLeastOnce = "fhir-cdc at_least_once"
)

// task is one run's work: everything from a time, to one topic.
type task struct {
	topic string
	// from is a whole second; zero means now.
	from time.Time
	// n is the number of changes, for programs that end by themselves.
	n int
}

// contender is a program that carries changes to Kafka.
type contender struct {
	name    string
	command func(task) program.Command
}

func (b *bench) contenders() []contender {
	all := []contender{
		{nameLoop, func(t task) program.Command { return b.loopCommand(t, 10*time.Millisecond) }},
		{nameExactlyOnce, func(t task) program.Command { return b.daemonCommand(t, "exactly_once") }},
		{nameAtLeastOnce, func(t task) program.Command { return b.daemonCommand(t, "at_least_once") }},
	}
	if b.peers {
		all = append(all, b.peerContenders()...)
	}
	return all
}

func (b *bench) loopCommand(t task, linger time.Duration) program.Command {
	args := []string{
		"loop", "-mongo", b.mongoDB.URI, "-brokers", strings.Join(b.kafka.Brokers, ","), "-topic", t.topic,
		"-linger", linger.String(),
	}
	if !t.from.IsZero() {
		args = append(args, "-from", strconv.FormatInt(t.from.Unix(), 10))
	}
	return program.Command{Path: b.self, Args: args}
}

// daemonCommand runs the daemon for the change events of Consents alone, without
// look-ups. Its name is the topic's, so that it finds no position of another run.
func (b *bench) daemonCommand(t task, delivery string) program.Command {
	start := "now"
	if !t.from.IsZero() {
		start = t.from.Format(time.RFC3339)
	}
	args := []string{"run"}
	for _, setting := range b.set {
		args = append(args, "--set", setting)
	}
	return program.Command{Path: b.binary, Args: args, Dir: b.dir, Env: []string{
		"FHIR_CDC_NAME=" + t.topic,
		"FHIR_CDC_DELIVERY=" + delivery,
		"FHIR_CDC_START=" + start,
		"FHIR_CDC_MONGODB_URI=" + b.mongoDB.URI,
		"FHIR_CDC_MONGODB_DATABASE=" + database,
		"FHIR_CDC_KAFKA_BROKERS=" + strings.Join(b.kafka.Brokers, ","),
		"FHIR_CDC_EVENTS_CHANGE_ENABLED=true",
		"FHIR_CDC_EVENTS_CHANGE_RESOURCES=Consent",
		"FHIR_CDC_EVENTS_CHANGE_TOPIC=" + t.topic,
		"FHIR_CDC_FACTS_REQUEST_ID=false",
		"FHIR_CDC_TOPICS_CREATE=true",
		"FHIR_CDC_HTTP_ADDRESS=127.0.0.1:0", // the default port may be taken
	}}
}
