package config

import "time"

// Config is the whole configuration. Every field is a key of config.yaml; what
// it means, its unit and its limits are in Keys, which is also where config.yaml
// takes its comments from.
type Config struct {
	// Name names this installation: two installations on one Kafka cluster must
	// not share it, because it is part of transactional ids and position keys.
	Name            string        `mapstructure:"name"`
	Delivery        Delivery      `mapstructure:"delivery"`
	Sink            Sink          `mapstructure:"sink"`
	Start           Start         `mapstructure:"start"`
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
	Replicas        Replicas      `mapstructure:"replicas"`
	Instance        string        `mapstructure:"instance"`
	SessionTimeout  time.Duration `mapstructure:"session_timeout"`
	// Streams are the groups that have streams of their own.
	Streams []StreamGroup `mapstructure:"streams"`

	MongoDB    MongoDB    `mapstructure:"mongodb"`
	Kafka      Kafka      `mapstructure:"kafka"`
	Events     Events     `mapstructure:"events"`
	Facts      Facts      `mapstructure:"facts"`
	Topics     Topics     `mapstructure:"topics"`
	Checkpoint Checkpoint `mapstructure:"checkpoint"`
	Batch      Batch      `mapstructure:"batch"`
	Retry      Retry      `mapstructure:"retry"`
	Repair     Repair     `mapstructure:"repair"`
	HTTP       HTTP       `mapstructure:"http"`
	Tracing    Tracing    `mapstructure:"tracing"`
	Log        Log        `mapstructure:"log"`

	// sources says where each key's value comes from (nothing for a default).
	sources map[string]source
	// warnings are what is not wrong and probably not meant.
	warnings []Fault
}

// MongoDB says where the FHIR server keeps its data. Use Main, HistoryCluster,
// AccessLogsCluster and AuditEventsCluster for connecting: they apply what is
// inherited and put credentials into the URI.
type MongoDB struct {
	URI       Secret        `mapstructure:"uri"`
	Hostname  string        `mapstructure:"hostname"`
	Port      int           `mapstructure:"port"`
	Username  string        `mapstructure:"username"`
	Password  Secret        `mapstructure:"password"`
	Database  string        `mapstructure:"database"`
	BatchSize int           `mapstructure:"batch_size"`
	MaxAwait  time.Duration `mapstructure:"max_await"`
	// OplogMinWindow is how much of the past the oplog should hold.
	OplogMinWindow time.Duration `mapstructure:"oplog_min_window"`

	History     Database   `mapstructure:"history"`
	AccessLogs  Collection `mapstructure:"access_logs"`
	AuditEvents Collection `mapstructure:"audit_events"`
}

// Database is a database that may be on a cluster of its own.
type Database struct {
	URI      Secret `mapstructure:"uri"`
	Username string `mapstructure:"username"`
	Password Secret `mapstructure:"password"`
	Database string `mapstructure:"database"`
}

// Collection is one collection of a database that may be on a cluster of its own.
type Collection struct {
	URI        Secret `mapstructure:"uri"`
	Username   string `mapstructure:"username"`
	Password   Secret `mapstructure:"password"`
	Database   string `mapstructure:"database"`
	Collection string `mapstructure:"collection"`
}

// Kafka says how to reach Kafka and how to write to it.
type Kafka struct {
	Brokers            []string      `mapstructure:"brokers"`
	ClientID           string        `mapstructure:"client_id"`
	Compression        Compression   `mapstructure:"compression"`
	TransactionTimeout time.Duration `mapstructure:"transaction_timeout"`
	Linger             time.Duration `mapstructure:"linger"`
	MaxRecordBytes     int           `mapstructure:"max_record_bytes"`
	TLS                TLS           `mapstructure:"tls"`
	SASL               SASL          `mapstructure:"sasl"`
}

// TLS is encryption towards Kafka. With Enabled alone the system's authorities
// are trusted.
type TLS struct {
	Enabled    bool   `mapstructure:"enabled"`
	CAFile     string `mapstructure:"ca_file"`
	CertFile   string `mapstructure:"cert_file"`
	KeyFile    string `mapstructure:"key_file"`
	ServerName string `mapstructure:"server_name"`
}

// SASL is authentication towards Kafka.
type SASL struct {
	Enabled   bool          `mapstructure:"enabled"`
	Mechanism SASLMechanism `mapstructure:"mechanism"`
	Username  string        `mapstructure:"username"`
	Password  Secret        `mapstructure:"password"`
	Token     Secret        `mapstructure:"token"`
	OAuth     OAuth         `mapstructure:"oauth"`
}

// OAuth is how tokens for SASLOAuthBearer are got, where Token does not give one.
type OAuth struct {
	TokenEndpoint string   `mapstructure:"token_endpoint"`
	ClientID      string   `mapstructure:"client_id"`
	ClientSecret  Secret   `mapstructure:"client_secret"`
	Scopes        []string `mapstructure:"scopes"`
	Extensions    []string `mapstructure:"extensions"`
	CAFile        string   `mapstructure:"ca_file"`
}

// Events holds one section for each event kind; the section names are the kinds'.
type Events struct {
	Change             ChangeEvents `mapstructure:"change"`
	Export             KindEvents   `mapstructure:"export"`
	AccessedEverything KindEvents   `mapstructure:"accessed_everything"`
}

// ChangeEvents are the change events (a FHIR AuditEvent each).
type ChangeEvents struct {
	Enabled   bool      `mapstructure:"enabled"`
	Topic     string    `mapstructure:"topic"`
	Resources []string  `mapstructure:"resources"`
	Deletes   bool      `mapstructure:"deletes"`
	OnFailure OnFailure `mapstructure:"on_failure"`
}

// KindEvents are the settings that every event kind has.
type KindEvents struct {
	Enabled   bool      `mapstructure:"enabled"`
	Topic     string    `mapstructure:"topic"`
	OnFailure OnFailure `mapstructure:"on_failure"`
}

// Facts are the look-ups for what a change itself does not say.
type Facts struct {
	RequestID                bool          `mapstructure:"request_id"`
	Wait                     time.Duration `mapstructure:"wait"`
	PersonCache              int           `mapstructure:"person_cache"`
	AccessedEverythingWindow time.Duration `mapstructure:"accessed_everything_window"`
	SeenRequests             int           `mapstructure:"seen_requests"`
}

// Topics names the topics that are not event topics, and says how missing ones
// are created.
type Topics struct {
	Create             bool   `mapstructure:"create"`
	Partitions         int    `mapstructure:"partitions"`
	ReplicationFactor  int    `mapstructure:"replication_factor"`
	Positions          string `mapstructure:"positions"`
	PositionPartitions int    `mapstructure:"position_partitions"`
	DeadLetters        string `mapstructure:"dead_letters"`
	Audit              string `mapstructure:"audit"`
}

// Checkpoint says where positions are kept, and how often they are saved where
// they do not travel with the events.
type Checkpoint struct {
	Store        CheckpointStore   `mapstructure:"store"`
	Interval     time.Duration     `mapstructure:"interval"`
	IdleInterval time.Duration     `mapstructure:"idle_interval"`
	MongoDB      CheckpointMongoDB `mapstructure:"mongodb"`
	File         CheckpointFile    `mapstructure:"file"`
}

// CheckpointMongoDB is the collection of checkpoint.store: mongodb. Use
// Config.CheckpointCluster for connecting.
type CheckpointMongoDB struct {
	URI        Secret `mapstructure:"uri"`
	Database   string `mapstructure:"database"`
	Collection string `mapstructure:"collection"`
}

// CheckpointFile is the file of checkpoint.store: file.
type CheckpointFile struct {
	Path string `mapstructure:"path"`
}

// Batch bounds a batch, the unit of publishing.
type Batch struct {
	MaxRecords int `mapstructure:"max_records"`
	MaxBytes   int `mapstructure:"max_bytes"`
}

// Retry bounds the pause before a failed stream is tried again.
type Retry struct {
	MinBackoff time.Duration `mapstructure:"min_backoff"`
	MaxBackoff time.Duration `mapstructure:"max_backoff"`
}

// Repair says what happens when the oplog no longer holds a stream's position.
type Repair struct {
	OnHistoryLost  OnHistoryLost `mapstructure:"on_history_lost"`
	ClockTolerance time.Duration `mapstructure:"clock_tolerance"`
}

// HTTP is the port of probes, metrics and status. It shows no contents, and without
// Token it changes nothing.
type HTTP struct {
	// Address is host:port, or HTTPOff.
	Address string `mapstructure:"address"`
	// Token is what requests that control the daemon must bear.
	Token Secret  `mapstructure:"token"`
	TLS   HTTPTLS `mapstructure:"tls"`
}

// HTTPTLS is the certificate of the port; with none it speaks plain HTTP.
type HTTPTLS struct {
	CertFile string `mapstructure:"cert_file"`
	KeyFile  string `mapstructure:"key_file"`
}

// HTTPOff is the http.address of a daemon without a port.
const HTTPOff = "off"

// Tracing says where traces go, if anywhere.
type Tracing struct {
	// Endpoint is the URL of an OpenTelemetry collector (OTLP over HTTP).
	Endpoint string `mapstructure:"endpoint"`
}

// Log says what is logged, and how.
type Log struct {
	Level  LogLevel  `mapstructure:"level"`
	Format LogFormat `mapstructure:"format"`
}

// ClientID is the id that Kafka clients give: kafka.client_id, else the name.
func (c *Config) ClientID() string {
	if c.Kafka.ClientID != "" {
		return c.Kafka.ClientID
	}
	return c.Name
}

// ReplicasByKafka tells whether replicas share the streams through a consumer group.
func (c *Config) ReplicasByKafka() bool {
	return c.Replicas == ReplicasKafka || (c.Replicas == ReplicasAuto && c.positionsInKafka())
}

func (c *Config) positionsInKafka() bool {
	return c.Sink == SinkKafka && c.Checkpoint.Store == StoreKafka
}
