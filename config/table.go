package config

import (
	"slices"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// The longest durations that make sense; anything above is a mistake in the unit.
const (
	longWait = time.Hour
	// maxTransaction is the broker's default transaction.max.timeout.ms.
	maxTransaction = 15 * time.Minute
	// maxDelay is much more than a transaction takes.
	maxDelay = 10 * time.Second
)

// maxMessage bounds sizes of batches and records (Kafka's sizes are 31 bits).
const maxMessage = 1 << 30

// specs is the table of all keys and sections, in the order of config.yaml. It is
// the one place for names, limits and comments.
func specs() []spec {
	var kinds []spec
	for _, kind := range mapper.Kinds() {
		kinds = append(kinds, kindSpecs(kind)...)
	}
	return slices.Concat([]spec{
		checked("name", checkName, "Name of the installation, its transactional ids, positions and consumer group."),
		oneOf("delivery", "The promise; exactly_once holds for read_committed consumers.", ExactlyOnce, AtLeastOnce),
		oneOf("sink", "Where events go; stdout prints JSON lines and needs no Kafka.", SinkKafka, SinkStdout),
		checked("start", checkStart, "Where a stream without a stored position begins: now, oldest, a time (2026-11-23T10:00:00Z) or how long ago (2h)."),
		duration("shutdown_timeout", time.Second, longWait, "Longest time to commit what is in flight at a stop. Kill the process no earlier than 15s after this and kafka.transaction_timeout."),
		oneOf("replicas", "kafka: processes share the streams, with stand-bys; auto: kafka where positions are in Kafka, else none.", ReplicasAuto, ReplicasNone, ReplicasKafka),
		checked("instance", optional(checkName), "Name of this process among the replicas, one for each; empty: the pod's or host's name."),
		duration("session_timeout", 6*time.Second, 5*time.Minute, "Time after which a dead replica's streams go to another."),
		text("streams", "Streams beside main (name; resources or databases; slices); see docs/streams.md."),

		section("mongodb", "The FHIR server's MongoDB, a replica set or sharded cluster."),
		secret("mongodb.uri", "Connection string; required without hostname.").from("MONGO_URL"),
		text("mongodb.hostname", "Host, instead of uri.").from("MONGO_HOSTNAME"),
		number("mongodb.port", "port", 1, 65535, "Port of hostname.").from("MONGO_PORT"),
		text("mongodb.username", "User name for the connection string.").from("MONGO_USERNAME").file(),
		secret("mongodb.password", "Password for the connection string.").from("MONGO_PASSWORD"),
		checked("mongodb.database", checkDatabase, "Database of the resources.").from("MONGO_DB_NAME"),
		number("mongodb.batch_size", "changes", 1, 100_000, "Most changes in one answer of the server."),
		duration("mongodb.max_await", 10*time.Millisecond, time.Minute, "Longest wait of the server for a change."),
		duration("mongodb.oplog_min_window", 0, 366*24*time.Hour, "Span that the oplog should hold; fhir-cdc check warns below it."),
		section("mongodb.history", "History of resources, with the request ids."),
		secret("mongodb.history.uri", "Connection string; empty: the main cluster.").from("RESOURCE_HISTORY_MONGO_URL"),
		text("mongodb.history.username", "User name for it.").from("RESOURCE_HISTORY_MONGO_USERNAME").file(),
		secret("mongodb.history.password", "Password for it.").from("RESOURCE_HISTORY_MONGO_PASSWORD"),
		checked("mongodb.history.database", checkDatabase, "Database; empty: the main database.").from("RESOURCE_HISTORY_MONGO_DB_NAME"),
		section("mongodb.access_logs", "Access logs, a source of usage events."),
		secret("mongodb.access_logs.uri", "Connection string; empty: the cluster of the AuditEvents.").from("ACCESS_LOGS_CLUSTER_MONGO_URL"),
		text("mongodb.access_logs.username", "User name for it.").from("ACCESS_LOGS_MONGO_USERNAME").file(),
		secret("mongodb.access_logs.password", "Password for it.").from("ACCESS_LOGS_MONGO_PASSWORD"),
		checked("mongodb.access_logs.database", checkDatabase, "Database; empty: the database of the AuditEvents.").from("ACCESS_LOGS_MONGO_DB_NAME"),
		checked("mongodb.access_logs.collection", checkCollection, "Collection."),
		section("mongodb.audit_events", "AuditEvents, the other source of usage events."),
		secret("mongodb.audit_events.uri", "Connection string; empty: the main cluster.").from("AUDIT_EVENT_MONGO_URL"),
		text("mongodb.audit_events.username", "User name for it.").from("AUDIT_EVENT_MONGO_USERNAME").file(),
		secret("mongodb.audit_events.password", "Password for it.").from("AUDIT_EVENT_MONGO_PASSWORD"),
		checked("mongodb.audit_events.database", checkDatabase, "Database; empty: the main database.").from("AUDIT_EVENT_MONGO_DB_NAME"),
		checked("mongodb.audit_events.collection", checkCollection, "Collection."),

		section("kafka", "Addresses and logins of Kafka."),
		text("kafka.brokers", "First addresses, host:port; required for sink: kafka.").from("KAFKA_URLS").ofServer(),
		text("kafka.client_id", "Client id; empty: the name.").from("KAFKA_CLIENT_ID"),
		oneOf("kafka.compression", "Compression of record batches.", CompressionNone, CompressionGzip, CompressionSnappy, CompressionLZ4, CompressionZstd),
		duration("kafka.transaction_timeout", time.Second, maxTransaction, "Time after which brokers abort a transaction; at most their transaction.max.timeout.ms."),
		duration("kafka.linger", 0, time.Minute, "Wait for more records within a batch; its end is sent at once."),
		number("kafka.max_record_bytes", "bytes", 1024, maxMessage, "Largest record; a smaller max.message.bytes of the topic holds."),
		section("kafka.tls", "Encryption."),
		text("kafka.tls.enabled", "Connect with TLS.").from("KAFKA_SSL"),
		text("kafka.tls.ca_file", "PEM file of trusted authorities; empty: the system's."),
		text("kafka.tls.cert_file", "PEM file of the certificate."),
		text("kafka.tls.key_file", "PEM file of its key."),
		text("kafka.tls.server_name", "Name in brokers' certificates; empty: the host's."),
		section("kafka.sasl", "Logins with SASL."),
		text("kafka.sasl.enabled", "Log in with SASL.").from("KAFKA_SASL"),
		oneOf("kafka.sasl.mechanism", "Mechanism; aws is IAM of Amazon MSK.", SASLAWS, SASLPlain, SASLScramSHA256, SASLScramSHA512, SASLOAuthBearer).from("KAFKA_SASL_MECHANISM"),
		text("kafka.sasl.username", "User name, for plain and scram.").from("KAFKA_SASL_USERNAME").file(),
		secret("kafka.sasl.password", "Password, for plain and scram.").from("KAFKA_SASL_PASSWORD"),
		secret("kafka.sasl.token", "Token of your own, for oauthbearer."),
		section("kafka.sasl.oauth", "For oauthbearer: tokens by the client credentials grant, renewed."),
		checked("kafka.sasl.oauth.token_endpoint", optional(plainURL("is not an address such as https://login.example.com/oauth2/token (the client id and secret have keys of their own)")), "https:// address; empty: sasl.token.").ofServer(),
		text("kafka.sasl.oauth.client_id", "Client's name at the endpoint.").file(),
		secret("kafka.sasl.oauth.client_secret", "Client's password at the endpoint."),
		text("kafka.sasl.oauth.scopes", "Scopes; none: the endpoint's choice."),
		text("kafka.sasl.oauth.extensions", "Extensions beside a token, each name=value."),
		text("kafka.sasl.oauth.ca_file", "PEM file of the endpoint's authorities; empty: the system's."),

		section("events", "The event kinds."),
		duration("events.data_change_window", time.Second, 15*time.Second, "Length of data changes' windows, in whole seconds; another changes ids."),
	}, kinds, []spec{
		section("facts", "Look-ups of facts that a change lacks."),
		text("facts.request_id", "Look up request ids in the history."),
		duration("facts.wait", 0, longWait, "Wait for a change's history; each further waiting change adds a tenth, up to 30 times in all."),
		number("facts.person_cache", "persons", 0, 10_000_000, "Most persons remembered."),
		duration("facts.accessed_everything_window", 0, 24*time.Hour, "Span before the position in which a start looks up the $everything requests that had their event; 0s: none."),
		number("facts.seen_requests", "requests", 1, 100_000_000, "Most $everything requests remembered."),

		section("topics", "Topics, and how missing ones are created."),
		text("topics.create", "Create missing topics; else one is an error at the start."),
		number("topics.partitions", "partitions", 1, 100_000, "Partitions of a new event or dead-letter topic."),
		number("topics.replication_factor", "replicas", -1, 32_767, "Replicas of a new topic; -1: the broker's default."),
		checked("topics.positions", checkTopic, "Compacted topic of positions."),
		number("topics.position_partitions", "partitions", 1, 10_000, "Partitions of a new positions topic."),
		checked("topics.dead_letters", checkTopic, "Topic of what cannot be produced."),
		checked("topics.audit", checkTopic, "Topic of gaps, repairs, replays and controls."),

		section("checkpoint", "Positions: how far each stream has been published."),
		oneOf("checkpoint.store", "Where positions are kept; exactly_once needs kafka.", StoreKafka, StoreMongoDB, StoreFile),
		duration("checkpoint.interval", 10*time.Millisecond, longWait, "Time between saved positions with at_least_once."),
		duration("checkpoint.idle_interval", time.Second, 24*time.Hour, "The same of a stream without changes."),
		section("checkpoint.mongodb", "For store: mongodb."),
		secret("checkpoint.mongodb.uri", "Connection string; empty: the main cluster."),
		checked("checkpoint.mongodb.database", checkDatabase, "Database; best none of the FHIR server's."),
		checked("checkpoint.mongodb.collection", checkCollection, "Collection."),
		section("checkpoint.file", "For store: file."),
		text("checkpoint.file.path", "The file, for one process at a time."),

		section("batch", "A batch ends at the first limit; the rest of one answer of the server may come on top."),
		number("batch.max_records", "records", 1, 1_000_000, "Most records."),
		number("batch.max_bytes", "bytes", 1024, maxMessage, "Most bytes."),
		duration("batch.max_delay", 0, maxDelay, "Longest rest after a transaction (six times its own duration), in which changes gather; idle streams and backlogs do not wait; 0s: none."),

		section("retry", "Pauses before a failed stream is tried again; each doubles."),
		duration("retry.min_backoff", time.Millisecond, longWait, "First pause."),
		duration("retry.max_backoff", time.Millisecond, longWait, "Longest pause."),

		section("repair", "After the oplog has lost a position."),
		oneOf("repair.on_history_lost", "repair publishes missed events from the collections; stop ends the daemon (exit code 4).", RepairHistory, StopStream),
		duration("repair.clock_tolerance", 100*time.Millisecond, 24*time.Hour, "Longest difference between clocks; a repair looks back by it."),

		section("http", "Status port: probes, /metrics, /status, page and controls."),
		checked("http.address", checkHTTPAddress, "Address host:port; port 0: a free one, which the log names; off: none."),
		text("http.allowed_hosts", "Further names of the port, such as a proxy's; see docs/http.md."),
		secret("http.token", "Token of controls and details, 16 characters or more; empty: neither."),
		section("http.tls", "Encryption; files are read again when they change."),
		text("http.tls.cert_file", "PEM file of certificate and chain; empty: plain HTTP."),
		text("http.tls.key_file", "PEM file of its key."),

		section("tracing", "OpenTelemetry traces, one a batch."),
		checked("tracing.endpoint", optional(plainURL("is not the URL of a collector, such as http://localhost:4318 (credentials go into OTEL_EXPORTER_OTLP_HEADERS)")), "URL of an OTLP collector over HTTP; empty: none. OTEL_* variables hold too.").ofServer(),

		section("log", "Logs, on standard error."),
		oneOf("log.level", "Lowest level.", LogDebug, LogInfo, LogWarn, LogError),
		oneOf("log.format", "Form of the lines; console is for people; auto: console on a terminal, else json.", LogAuto, LogJSON, LogConsole),
	})
}

// kindSpecs are the rows of one kind of event.
func kindSpecs(kind mapper.Definition) []spec {
	key := "events." + string(kind.Name)
	rows := []spec{
		section(key, kind.Summary),
		text(key+".enabled", "Publish this kind.").from(kind.EnableVariable),
		checked(key+".topic", checkTopic, "Topic.").from(kind.TopicVariable),
	}
	if kind.ResourcesVariable != "" {
		rows = append(rows,
			text(key+".resources", "Resource types (AuditEvent never).").from(kind.ResourcesVariable),
			text(key+".deletes", "Events of deleted resources too."))
	}
	return append(rows,
		oneOf(key+".on_failure", "On what fails.", DeadLetter, Stop),
		oneOf(key+".profile", "Form (docs/events.md).", kind.Profiles...))
}
