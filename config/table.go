package config

import "time"

// The longest durations that make sense; anything above is a mistake in the unit.
const (
	longWait = time.Hour
	// maxTransaction is the broker's default transaction.max.timeout.ms.
	maxTransaction = 15 * time.Minute
)

// maxMessage bounds sizes of batches and records (Kafka's sizes are 31 bits).
const maxMessage = 1 << 30

// specs is the table of all keys and sections, in the order of config.yaml. It is
// the one place for names, limits and comments.
func specs() []spec {
	return []spec{
		checked("name", checkName, "Name of this installation: part of transactional ids, position keys, the consumer group and the default client id."),
		oneOf("delivery", "What is promised for each event; exactly_once holds for read_committed consumers.", ExactlyOnce, AtLeastOnce),
		oneOf("sink", "Where events go; stdout prints them as JSON lines and needs no Kafka.", SinkKafka, SinkStdout),
		checked("start", checkStart, "Where to begin if no position is stored: now, oldest, or a time such as 2026-11-23T10:00:00Z."),
		duration("shutdown_timeout", time.Second, longWait, "Longest time for committing what is in flight when the daemon is told to stop; a commit that is under way then may take kafka.transaction_timeout. Let 15s more than the longer of the two pass before the process is killed."),
		oneOf("replicas", "How several processes share the streams: kafka is a consumer group, in which others stand by; auto is kafka where positions are in Kafka, else none.", ReplicasAuto, ReplicasNone, ReplicasKafka),
		checked("instance", checkInstance, "Name of this process among the replicas, different for each; empty: the pod's or host's name."),
		duration("session_timeout", 6*time.Second, 5*time.Minute, "Time after which a replica that died loses its streams to another."),
		text("streams", "Parts that get streams of their own (name; resources or databases; slices), such as [{name: hot, resources: [Observation], slices: 2}], in variables too; see docs/streams.md. The rest stays in the stream main."),

		section("mongodb", "The FHIR server's MongoDB (a replica set or a sharded cluster)."),
		secret("mongodb.uri", "Connection string of the main cluster; required, unless hostname is set.").from("MONGO_URL"),
		text("mongodb.hostname", "Host of the main cluster, instead of uri.").from("MONGO_HOSTNAME"),
		number("mongodb.port", "port", 1, 65535, "Port that goes with hostname.").from("MONGO_PORT"),
		text("mongodb.username", "User name to put into the connection string.").from("MONGO_USERNAME").file(),
		secret("mongodb.password", "Password to put into the connection string.").from("MONGO_PASSWORD"),
		checked("mongodb.database", checkDatabase, "Database with the resources.").from("MONGO_DB_NAME"),
		number("mongodb.batch_size", "changes", 1, 100_000, "Most changes that one answer of the server holds."),
		duration("mongodb.max_await", 10*time.Millisecond, time.Minute, "Longest time that the server waits for a change before it answers with none."),
		duration("mongodb.oplog_min_window", 0, 366*24*time.Hour, "How much of the past the oplog should hold; fhir-cdc check warns below it."),
		section("mongodb.history", "History of resources, where request ids are found."),
		secret("mongodb.history.uri", "Connection string; empty: the main cluster.").from("RESOURCE_HISTORY_MONGO_URL"),
		text("mongodb.history.username", "User name to put into this connection string.").from("RESOURCE_HISTORY_MONGO_USERNAME").file(),
		secret("mongodb.history.password", "Password to put into this connection string.").from("RESOURCE_HISTORY_MONGO_PASSWORD"),
		checked("mongodb.history.database", checkDatabase, "Database; empty: the main database.").from("RESOURCE_HISTORY_MONGO_DB_NAME"),
		section("mongodb.access_logs", "Access logs, a source of AccessedEverything events."),
		secret("mongodb.access_logs.uri", "Connection string; empty: the cluster of the AuditEvents.").from("ACCESS_LOGS_CLUSTER_MONGO_URL"),
		text("mongodb.access_logs.username", "User name to put into this connection string.").from("ACCESS_LOGS_MONGO_USERNAME").file(),
		secret("mongodb.access_logs.password", "Password to put into this connection string.").from("ACCESS_LOGS_MONGO_PASSWORD"),
		checked("mongodb.access_logs.database", checkDatabase, "Database; empty: the database of the AuditEvents.").from("ACCESS_LOGS_MONGO_DB_NAME"),
		checked("mongodb.access_logs.collection", checkCollection, "Collection of the access logs."),
		section("mongodb.audit_events", "AuditEvents, the other source of AccessedEverything events."),
		secret("mongodb.audit_events.uri", "Connection string; empty: the main cluster.").from("AUDIT_EVENT_MONGO_URL"),
		text("mongodb.audit_events.username", "User name to put into this connection string.").from("AUDIT_EVENT_MONGO_USERNAME").file(),
		secret("mongodb.audit_events.password", "Password to put into this connection string.").from("AUDIT_EVENT_MONGO_PASSWORD"),
		checked("mongodb.audit_events.database", checkDatabase, "Database; empty: the main database.").from("AUDIT_EVENT_MONGO_DB_NAME"),
		checked("mongodb.audit_events.collection", checkCollection, "Collection of the AuditEvents."),

		section("kafka", "How to reach Kafka, and how to write to it."),
		text("kafka.brokers", "Addresses to begin with, each host:port; required for sink: kafka.").from("KAFKA_URLS"),
		text("kafka.client_id", "Client id; empty: the name.").from("KAFKA_CLIENT_ID"),
		oneOf("kafka.compression", "Compression of record batches.", CompressionNone, CompressionGzip, CompressionSnappy, CompressionLZ4, CompressionZstd),
		duration("kafka.transaction_timeout", time.Second, maxTransaction, "Time after which the broker aborts a transaction left open; at most its transaction.max.timeout.ms."),
		duration("kafka.linger", 0, time.Minute, "Time to wait for more records while a batch is handed over; its end is sent at once."),
		number("kafka.max_record_bytes", "bytes", 1024, maxMessage, "Largest record to send; where the topic's max.message.bytes is smaller, that holds."),
		section("kafka.tls", "Encryption of the connections."),
		text("kafka.tls.enabled", "Whether to connect with TLS.").from("KAFKA_SSL"),
		text("kafka.tls.ca_file", "PEM file of the authorities to trust; empty: the system's."),
		text("kafka.tls.cert_file", "PEM file of the client certificate."),
		text("kafka.tls.key_file", "PEM file of the client certificate's key."),
		text("kafka.tls.server_name", "Name to expect in the brokers' certificates; empty: the host name."),
		section("kafka.sasl", "Authentication with SASL."),
		text("kafka.sasl.enabled", "Whether to authenticate.").from("KAFKA_SASL"),
		oneOf("kafka.sasl.mechanism", "Mechanism; aws is IAM of Amazon MSK, with credentials (and the region, where the broker names do not tell it) from the AWS_* variables.", SASLAWS, SASLPlain, SASLScramSHA256, SASLScramSHA512, SASLOAuthBearer).from("KAFKA_SASL_MECHANISM"),
		text("kafka.sasl.username", "User name, for plain and scram.").from("KAFKA_SASL_USERNAME").file(),
		secret("kafka.sasl.password", "Password, for plain and scram.").from("KAFKA_SASL_PASSWORD"),
		secret("kafka.sasl.token", "Token, for oauthbearer with a token from elsewhere."),
		section("kafka.sasl.oauth", "For oauthbearer: get tokens by the client credentials grant, and renew them."),
		checked("kafka.sasl.oauth.token_endpoint", checkTokenEndpoint, "Address that gives tokens, https://…; empty: sasl.token is used."),
		text("kafka.sasl.oauth.client_id", "Name of this client at the token endpoint.").file(),
		secret("kafka.sasl.oauth.client_secret", "Password of this client at the token endpoint."),
		text("kafka.sasl.oauth.scopes", "Scopes to ask for; none leaves them to the token endpoint."),
		text("kafka.sasl.oauth.extensions", "What the brokers want to be told beside a token, each name=value, such as logicalCluster=lkc-1."),
		text("kafka.sasl.oauth.ca_file", "PEM file of the authorities to trust for the token endpoint; empty: the system's."),

		section("events", "The event kinds. Without a file, a kind is on only if its ENABLE_ variable says so."),
		section("events.change", "Change events: a FHIR AuditEvent for each created or changed resource."),
		text("events.change.enabled", "Whether to produce them.").from("ENABLE_EVENTS_KAFKA"),
		checked("events.change.topic", checkTopic, "Topic of these events.").from("KAFKA_RESOURCE_CHANGE_TOPIC"),
		text("events.change.resources", "Resource types (AuditEvent never).").from("KAFKA_ENABLED_RESOURCES"),
		text("events.change.deletes", "Whether deleting a resource is an event too."),
		oneOf("events.change.on_failure", "What to do with an event that cannot be produced.", DeadLetter, Stop),
		section("events.export", "Bulk export events: a CloudEvent for each status of an ExportStatus."),
		text("events.export.enabled", "Whether to produce them.").from("ENABLE_BULK_EXPORT_KAFKA_EVENTS"),
		checked("events.export.topic", checkTopic, "Topic of these events.").from("KAFKA_BULK_EXPORT_EVENT_TOPIC"),
		oneOf("events.export.on_failure", "What to do with an event that cannot be produced.", DeadLetter, Stop),
		section("events.accessed_everything", "Usage events: a CloudEvent for each $everything of a patient-scoped token."),
		text("events.accessed_everything.enabled", "Whether to produce them.").from("ENABLE_FHIR_OPERATION_USAGE_KAFKA_EVENTS"),
		checked("events.accessed_everything.topic", checkTopic, "Topic of these events.").from("KAFKA_FHIR_OPERATION_USAGE_EVENT_TOPIC"),
		oneOf("events.accessed_everything.on_failure", "What to do with an event that cannot be produced.", DeadLetter, Stop),

		section("facts", "Look-ups for what a change does not say itself."),
		text("facts.request_id", "Whether to look up the request id in the history."),
		duration("facts.wait", 0, longWait, "Longest time after a change to wait for its history; a backlog does not wait."),
		number("facts.person_cache", "persons", 0, 10_000_000, "Most persons to remember; a stream that does not read the changes of Persons itself remembers none."),
		duration("facts.accessed_everything_window", 0, 24*time.Hour, "How far before its position a stream reads again at the start which $everything requests had their event; 0s: not at all."),
		number("facts.seen_requests", "requests", 1, 100_000_000, "Most $everything requests to remember."),

		section("topics", "Topics, and the settings for creating missing ones."),
		text("topics.create", "Whether to create missing topics; otherwise a missing topic is an error at the start."),
		number("topics.partitions", "partitions", 1, 100_000, "Partitions of an event or dead-letter topic that is created."),
		number("topics.replication_factor", "replicas", -1, 32_767, "Replicas of a topic that is created; -1: the broker's default."),
		checked("topics.positions", checkTopic, "Compacted topic of positions."),
		number("topics.position_partitions", "partitions", 1, 10_000, "Partitions of the positions topic if it is created."),
		checked("topics.dead_letters", checkTopic, "Topic for what cannot be produced: position and reason, no contents."),
		checked("topics.audit", checkTopic, "Topic that records what is done to streams: gaps and repairs, positions set, replays, controls; no contents."),

		section("checkpoint", "Positions: how far each stream has been published."),
		oneOf("checkpoint.store", "Where positions are kept; exactly_once needs kafka.", StoreKafka, StoreMongoDB, StoreFile),
		duration("checkpoint.interval", 10*time.Millisecond, longWait, "Time between saved positions at at_least_once."),
		duration("checkpoint.idle_interval", time.Second, 24*time.Hour, "Time between saved positions of a stream without changes."),
		section("checkpoint.mongodb", "Where store: mongodb keeps positions."),
		secret("checkpoint.mongodb.uri", "Connection string; empty: the main cluster."),
		checked("checkpoint.mongodb.database", checkDatabase, "Database; best not one of the FHIR server's."),
		checked("checkpoint.mongodb.collection", checkCollection, "Collection of the positions."),
		section("checkpoint.file", "Where store: file keeps positions."),
		text("checkpoint.file.path", "The file; only one process at a time may use it."),

		section("batch", "The unit of publishing ends at the first of these limits."),
		number("batch.max_records", "records", 1, 1_000_000, "Most records of a batch; the rest of one answer of the server may come on top."),
		number("batch.max_bytes", "bytes", 1024, maxMessage, "Most bytes of a batch; the rest of one answer of the server may come on top."),

		section("retry", "Pauses before a failed stream is tried again; they double from min to max."),
		duration("retry.min_backoff", time.Millisecond, longWait, "First pause."),
		duration("retry.max_backoff", time.Millisecond, longWait, "Longest pause."),

		section("repair", "What to do when the oplog no longer holds a stream's position."),
		oneOf("repair.on_history_lost", "repair publishes what was missed from the collections and goes on; stop ends the daemon with exit code 4.", RepairHistory, StopStream),
		duration("repair.clock_tolerance", 100*time.Millisecond, 24*time.Hour, "Longest difference between the clocks of the FHIR server, MongoDB and Kafka; a repair looks that much further back."),

		section("http", "Port of probes (/livez, /readyz, /startupz), /metrics, /status and the status page; it shows no contents, and without a token it changes nothing."),
		checked("http.address", checkHTTPAddress, "Address to listen on, host:port; port 0 takes a free one, which the log names; off: none."),
		secret("http.token", "Token of 16 characters or more that controls (pause, resume, log level) need; empty: there are none."),
		section("http.tls", "Encryption of the port; the files are read again when they change."),
		text("http.tls.cert_file", "PEM file of the certificate, with its chain; empty: plain HTTP."),
		text("http.tls.key_file", "PEM file of the certificate's key."),

		section("tracing", "OpenTelemetry traces: one of each batch, with no contents."),
		checked("tracing.endpoint", checkTracing, "URL of a collector that takes OTLP over HTTP, such as http://localhost:4318; empty: none. The OTEL_* variables for headers, certificates and sampling hold too."),

		section("log", "Logs, which go to standard error."),
		oneOf("log.level", "Lowest level to log.", LogDebug, LogInfo, LogWarn, LogError),
		oneOf("log.format", "Form of log lines; console is for people.", LogJSON, LogConsole),
	}
}
