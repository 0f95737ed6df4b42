package config

// examples are values that work, by key, for the reference; a test parses each.
func examples() map[string]string {
	return map[string]string{ //nolint:gosec // the secrets among them are a mark, no values.
		"name": "fhir-cdc-eu", "delivery": "at_least_once", "sink": "stdout", "start": "2026-11-23T10:00:00Z",
		"shutdown_timeout": "40s", "replicas": "none", "instance": "fhir-cdc-0", "session_timeout": "15s",
		"streams": "[{name: hot, resources: [Observation], slices: 2}]",

		"mongodb.uri": "mongodb://mongo:27017/?replicaSet=rs0", "mongodb.hostname": "mongo", "mongodb.port": "27018",
		"mongodb.username": "fhir-cdc", "mongodb.password": "…", "mongodb.database": "fhir",
		"mongodb.batch_size": "1000", "mongodb.max_await": "500ms", "mongodb.oplog_min_window": "72h",
		"mongodb.history.uri": "mongodb://history:27017/?replicaSet=rs1", "mongodb.history.username": "fhir-cdc",
		"mongodb.history.password": "…", "mongodb.history.database": "resource-history",
		"mongodb.access_logs.uri": "mongodb://logs:27017/?replicaSet=rs2", "mongodb.access_logs.username": "fhir-cdc",
		"mongodb.access_logs.password": "…", "mongodb.access_logs.database": "access-logs", "mongodb.access_logs.collection": "access-logs",
		"mongodb.audit_events.uri": "mongodb://audit:27017/?replicaSet=rs3", "mongodb.audit_events.username": "fhir-cdc",
		"mongodb.audit_events.password": "…", "mongodb.audit_events.database": "audit-event", "mongodb.audit_events.collection": "AuditEvent_4_0_0",

		"kafka.brokers": "kafka-0:9092,kafka-1:9092", "kafka.client_id": "fhir-cdc", "kafka.compression": "zstd",
		"kafka.transaction_timeout": "1m", "kafka.linger": "10ms", "kafka.max_record_bytes": "5242880",
		"kafka.tls.enabled": "true", "kafka.tls.ca_file": "/etc/fhir-cdc/kafka-ca.pem", "kafka.tls.cert_file": "/etc/fhir-cdc/client.pem",
		"kafka.tls.key_file": "/etc/fhir-cdc/client-key.pem", "kafka.tls.server_name": "kafka.internal",
		"kafka.sasl.enabled": "true", "kafka.sasl.mechanism": "scram-sha-512", "kafka.sasl.username": "fhir-cdc",
		"kafka.sasl.password": "…", "kafka.sasl.token": "…",
		"kafka.sasl.oauth.token_endpoint": "https://login.example/oauth2/token", "kafka.sasl.oauth.client_id": "fhir-cdc",
		"kafka.sasl.oauth.client_secret": "…", "kafka.sasl.oauth.scopes": "kafka", "kafka.sasl.oauth.extensions": "logicalCluster=lkc-1",
		"kafka.sasl.oauth.ca_file": "/etc/fhir-cdc/login-ca.pem",

		"events.change.enabled": "true", "events.change.topic": "eu.business.events", "events.change.resources": "Consent,ExportStatus,Person",
		"events.change.deletes": "true", "events.change.on_failure": "stop",
		"events.export.enabled": "false", "events.export.topic": "eu.fhir.bulk_export.events", "events.export.on_failure": "stop",
		"events.accessed_everything.enabled": "false", "events.accessed_everything.topic": "eu.fhir.operation.usage.events",
		"events.accessed_everything.on_failure": "stop",

		"facts.request_id": "false", "facts.wait": "3s", "facts.person_cache": "50000",
		"facts.accessed_everything_window": "5m", "facts.seen_requests": "500000",

		"topics.create": "true", "topics.partitions": "12", "topics.replication_factor": "3", "topics.positions": "eu.fhir-cdc.positions",
		"topics.position_partitions": "16", "topics.dead_letters": "eu.fhir-cdc.dead-letters", "topics.audit": "eu.fhir-cdc.audit",

		"checkpoint.store": "file", "checkpoint.interval": "500ms", "checkpoint.idle_interval": "1m",
		"checkpoint.mongodb.uri": "mongodb://positions:27017/?replicaSet=rs4", "checkpoint.mongodb.database": "fhir-cdc",
		"checkpoint.mongodb.collection": "positions", "checkpoint.file.path": "/var/lib/fhir-cdc/positions.json",

		"batch.max_records": "5000", "batch.max_bytes": "4194304", "retry.min_backoff": "250ms", "retry.max_backoff": "1m",
		"repair.on_history_lost": "stop", "repair.clock_tolerance": "1m",
		"http.address": "0.0.0.0:8080", "http.token": "…", "http.tls.cert_file": "/etc/fhir-cdc/tls.crt", "http.tls.key_file": "/etc/fhir-cdc/tls.key",
		"tracing.endpoint": "http://otel-collector:4318", "log.level": "debug", "log.format": "console",
	}
}
