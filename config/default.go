package config

import (
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// Default returns the configuration that config.yaml spells out. All kinds of event are on,
// except those with OptIn. MongoDB's URI and the brokers have no sensible default and are
// empty, so the configuration is not valid yet.
func Default() *Config {
	c := &Config{
		Name:            "fhir-cdc",
		Delivery:        ExactlyOnce,
		Sink:            SinkKafka,
		Start:           StartNow,
		ShutdownTimeout: 20 * time.Second,
		Replicas:        ReplicasAuto,
		SessionTimeout:  10 * time.Second,
		Streams:         []StreamGroup{},
		MongoDB: MongoDB{
			Port:     27017,
			Database: "fhir",
			// Enough for a commit to take no longer than reading the next batch;
			// docs/benchmarks.md compares sizes.
			BatchSize: 4000,
			MaxAwait:  time.Second,
			// A day is how long an outage at a weekend may last unseen.
			OplogMinWindow: 24 * time.Hour,
			AccessLogs:     Collection{Collection: "access-logs"},
			AuditEvents:    Collection{Collection: "AuditEvent_4_0_0"},
		},
		Kafka: Kafka{
			Brokers:            []string{},
			Compression:        CompressionGzip, // kafkajs, the FHIR server's client, reads no other
			TransactionTimeout: 30 * time.Second,
			// The end of a batch is sent at once; within it the client should not
			// send the first record alone.
			Linger: 5 * time.Millisecond,
			// What a broker takes unless it is told otherwise (since Kafka 2.5 a
			// little more: 1048588).
			MaxRecordBytes: 1000012,
			SASL:           SASL{Mechanism: SASLAWS, OAuth: OAuth{Scopes: []string{}, Extensions: SecretPairs{}}},
		},
		// The proposal of compact events has deletes.
		// The FHIR server sends data change events every 10 s.
		Events: Events{DataChangeWindow: 10 * time.Second, ResourceChange: ChangeEvents{Deletes: true}},
		Facts: Facts{
			RequestID:                true,
			Wait:                     time.Second,
			PersonCache:              10_000,
			AccessedEverythingWindow: time.Minute,
			SeenRequests:             100_000,
		},
		Topics: Topics{
			Partitions:         6,
			ReplicationFactor:  -1,
			Positions:          "fhir-cdc.positions",
			PositionPartitions: 8,
			DeadLetters:        "fhir-cdc.dead-letters",
			Audit:              "fhir-cdc.audit",
		},
		Checkpoint: Checkpoint{
			Store:        StoreKafka,
			Interval:     time.Second,
			IdleInterval: 30 * time.Second,
			MongoDB:      CheckpointMongoDB{Database: "fhir-cdc", Collection: "positions"},
			File:         CheckpointFile{Path: "./fhir-cdc.positions.json"},
		},
		Batch:  Batch{MaxRecords: 10_000, MaxBytes: 8 << 20, MaxDelay: 50 * time.Millisecond},
		Retry:  Retry{MinBackoff: 100 * time.Millisecond, MaxBackoff: 30 * time.Second},
		Repair: Repair{OnHistoryLost: RepairHistory, ClockTolerance: 5 * time.Minute},
		HTTP:   HTTP{Address: "127.0.0.1:8080", AllowedHosts: []string{}},
		Log:    Log{Level: LogInfo, Format: LogAuto},
	}
	for _, kind := range mapper.Kinds() {
		*c.Events.Of(kind.Name) = KindEvents{Enabled: !kind.OptIn, Topic: kind.Topic, OnFailure: DeadLetter, Profile: kind.Profiles[0]}
		if section := c.Events.Chosen(kind); section != nil {
			section.Resources = kind.Resources
		}
	}
	return c
}
