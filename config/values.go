package config

import (
	"errors"
	"time"
)

// Delivery is what the daemon promises about each event.
type Delivery string

// The promises. ExactlyOnce holds for read_committed consumers: events and the
// position after them are one Kafka transaction. AtLeastOnce may repeat events
// after a crash, with the same ids.
const (
	ExactlyOnce Delivery = "exactly_once"
	AtLeastOnce Delivery = "at_least_once"
)

// Sink is where events go.
type Sink string

// The sinks. SinkStdout prints events as JSON lines and needs no Kafka; Delivery
// is then without effect.
const (
	SinkKafka  Sink = "kafka"
	SinkStdout Sink = "stdout"
)

// Replicas is how several processes share the streams of one installation.
type Replicas string

// The ways. ReplicasKafka joins a consumer group: each stream runs on one process,
// the others stand by. ReplicasAuto is ReplicasKafka where positions are kept in
// Kafka, else ReplicasNone.
const (
	ReplicasAuto  Replicas = "auto"
	ReplicasNone  Replicas = "none"
	ReplicasKafka Replicas = "kafka"
)

// Compression is the codec of record batches.
type Compression string

// The codecs, as Kafka names them.
const (
	CompressionNone   Compression = "none"
	CompressionGzip   Compression = "gzip"
	CompressionSnappy Compression = "snappy"
	CompressionLZ4    Compression = "lz4"
	CompressionZstd   Compression = "zstd"
)

// SASLMechanism is a way to authenticate towards Kafka.
type SASLMechanism string

// The mechanisms, named as the FHIR server names them; upper case is accepted.
// SASLAWS is IAM of Amazon MSK.
const (
	SASLAWS         SASLMechanism = "aws"
	SASLPlain       SASLMechanism = "plain"
	SASLScramSHA256 SASLMechanism = "scram-sha-256"
	SASLScramSHA512 SASLMechanism = "scram-sha-512"
	SASLOAuthBearer SASLMechanism = "oauthbearer"
)

// OnFailure is what happens to an event that cannot be produced.
type OnFailure string

// The policies. DeadLetter records it in the dead-letter topic (position and
// reason, no contents) and goes on; Stop ends the daemon before it.
const (
	DeadLetter OnFailure = "dead_letter"
	Stop       OnFailure = "stop"
)

// OnHistoryLost is what a stream does whose position the oplog no longer holds.
type OnHistoryLost string

// The policies. RepairHistory publishes what was missed from the collections and goes
// on; StopStream ends the daemon, for an operator to decide.
const (
	RepairHistory OnHistoryLost = "repair"
	StopStream    OnHistoryLost = "stop"
)

// CheckpointStore is a home of positions.
type CheckpointStore string

// The homes. Exactly-once needs StoreKafka.
const (
	StoreKafka   CheckpointStore = "kafka"
	StoreMongoDB CheckpointStore = "mongodb"
	StoreFile    CheckpointStore = "file"
)

// LogLevel is the lowest level that is logged.
type LogLevel string

// The levels, as zap names them.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// LogFormat is the form of log lines.
type LogFormat string

// The forms: one JSON object a line, or text for people. LogAuto is LogConsole on a terminal,
// else LogJSON.
const (
	LogAuto    LogFormat = "auto"
	LogJSON    LogFormat = "json"
	LogConsole LogFormat = "console"
)

// Start says where a stream begins that has never had a position: now, oldest
// (the oldest change that the oplog still has), or a time in one of the TimeForms.
type Start string

// The starts that are words.
const (
	StartNow    Start = "now"
	StartOldest Start = "oldest"
)

// Time returns the time that s names, counted back from now if s says how long ago, and false for now and oldest. The error
// says that s is neither a word nor a time; Load has checked that already.
func (s Start) Time() (time.Time, bool, error) {
	if s == StartNow || s == StartOldest {
		return time.Time{}, false, nil
	}
	t, err := ParseTime(string(s), time.Now())
	if err != nil {
		return time.Time{}, false, errors.New(shown(string(s)) + " is neither now, oldest nor a time: give " + TimeForms)
	}
	return t, true, nil
}
