package config

import (
	"slices"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

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

	// origins says where each key's value comes from (nothing for a default).
	origins map[string]origin
	// warnings are settings that are allowed and probably not meant.
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
	TokenEndpoint string      `mapstructure:"token_endpoint"`
	ClientID      string      `mapstructure:"client_id"`
	ClientSecret  Secret      `mapstructure:"client_secret"`
	Scopes        []string    `mapstructure:"scopes"`
	Extensions    SecretPairs `mapstructure:"extensions"`
	CAFile        string      `mapstructure:"ca_file"`
}

// Events holds one section for each event kind; the section names are the kinds'.
// Of gives the section of a kind.
type Events struct {
	// DataChangeWindow is the length of the windows of patient and person data change events.
	DataChangeWindow   time.Duration `mapstructure:"data_change_window"`
	Change             ChangeEvents  `mapstructure:"change"`
	Export             KindEvents    `mapstructure:"export"`
	AccessedEverything KindEvents    `mapstructure:"accessed_everything"`
	ResourceChange     ChangeEvents  `mapstructure:"resource_change"`
	PersonLink         KindEvents    `mapstructure:"person_link"`
	PatientDataChange  KindEvents    `mapstructure:"patient_data_change"`
	PersonDataChange   KindEvents    `mapstructure:"person_data_change"`
}

// ChangeEvents are the settings of a kind whose resource types can be chosen.
type ChangeEvents struct {
	KindEvents `mapstructure:",squash"`
	Resources  []string `mapstructure:"resources"`
	Deletes    bool     `mapstructure:"deletes"`
}

// KindEvents are the settings that every event kind has.
type KindEvents struct {
	Enabled   bool      `mapstructure:"enabled"`
	Topic     string    `mapstructure:"topic"`
	OnFailure OnFailure `mapstructure:"on_failure"`
	// Profile is one of the kind's.
	Profile mapper.Profile `mapstructure:"profile"`
}

// Of is the section of a kind.
func (e *Events) Of(kind mapper.Kind) *KindEvents {
	section := map[mapper.Kind]*KindEvents{
		mapper.KindChange:             &e.Change.KindEvents,
		mapper.KindExport:             &e.Export,
		mapper.KindAccessedEverything: &e.AccessedEverything,
		mapper.KindResourceChange:     &e.ResourceChange.KindEvents,
		mapper.KindPersonLink:         &e.PersonLink,
		mapper.KindPatientDataChange:  &e.PatientDataChange,
		mapper.KindPersonDataChange:   &e.PersonDataChange,
	}[kind]
	if section == nil {
		panic("config: Events has no section for the kind " + string(kind)) // every test would meet it
	}
	return section
}

// Chosen is the section of a kind whose resource types can be chosen, nil for other kinds.
func (e *Events) Chosen(kind mapper.Definition) *ChangeEvents {
	if kind.ResourcesVariable == "" {
		return nil
	}
	section := map[mapper.Kind]*ChangeEvents{
		mapper.KindChange:         &e.Change,
		mapper.KindResourceChange: &e.ResourceChange,
	}[kind.Name]
	if section == nil {
		panic("config: Chosen lacks the kind " + string(kind.Name)) // as in Of
	}
	return section
}

// Enabled are the kinds that are on.
func (e *Events) Enabled() []mapper.Definition {
	return slices.DeleteFunc(mapper.Kinds(), func(kind mapper.Definition) bool { return !e.Of(kind.Name).Enabled })
}

// ResourcesOf are the resource types that make events of a kind, if it is on.
func (e *Events) ResourcesOf(kind mapper.Definition) []string {
	if section := e.Chosen(kind); section != nil {
		return section.Resources
	}
	return kind.Resources
}

// WithDeletes are the kinds that are on and have events of deletes.
func (e *Events) WithDeletes() []mapper.Definition {
	return slices.DeleteFunc(e.Enabled(), func(kind mapper.Definition) bool {
		section := e.Chosen(kind)
		return section == nil || !section.Deletes
	})
}

// Resources are the resource types that make events of any kind that is on, each once.
func (e *Events) Resources() []string {
	var all []string
	for _, kind := range e.Enabled() {
		for _, resource := range e.ResourcesOf(kind) {
			if !slices.Contains(all, resource) {
				all = append(all, resource)
			}
		}
	}
	return all
}

// MapperConfig is the configuration of a mapper of all that the installation watches.
func (c *Config) MapperConfig() mapper.Config {
	access, audit := c.MongoDB.AccessLogsCluster(), c.MongoDB.AuditEventsCluster()
	m := mapper.Config{
		Topics:      map[mapper.Kind]string{},
		Profiles:    map[mapper.Kind]mapper.Profile{},
		Database:    c.MongoDB.Main().Database,
		Resources:   c.Events.Change.Resources,
		Deletes:     c.Events.Change.Deletes,
		AccessLogs:  mapper.Namespace{Database: access.Database, Collection: access.Collection},
		AuditEvents: mapper.Namespace{Database: audit.Database, Collection: audit.Collection},
	}
	if compact := c.Events.ResourceChange; compact.Enabled {
		m.ResourceChange = mapper.Choice{Resources: compact.Resources, Deletes: compact.Deletes}
	}
	for _, kind := range c.Events.Enabled() {
		events := c.Events.Of(kind.Name)
		m.Topics[kind.Name] = events.Topic
		if events.Profile != mapper.ProfileSeed {
			m.Profiles[kind.Name] = events.Profile
		}
	}
	return m
}

// WindowsConfig is the configuration of the mapper of the kinds that have events of windows.
// MapperConfig is that of all others.
func (c *Config) WindowsConfig() mapper.Config {
	m := mapper.Config{Topics: map[mapper.Kind]string{}, Database: c.MongoDB.Main().Database, Window: c.Events.DataChangeWindow}
	for _, kind := range c.Events.Enabled() {
		if kind.Windowed {
			m.Topics[kind.Name] = c.Events.Of(kind.Name).Topic
		}
	}
	if history := c.MongoDB.HistoryCluster(); history.Same(c.MongoDB.Main()) {
		m.Histories = history.Database
	}
	return m
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
// Config.PositionsInMongoDB for connecting.
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
	MaxRecords int           `mapstructure:"max_records"`
	MaxBytes   int           `mapstructure:"max_bytes"`
	MaxDelay   time.Duration `mapstructure:"max_delay"`
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
	// AllowedHosts are further names that requests may ask for.
	AllowedHosts []string `mapstructure:"allowed_hosts"`
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
	return c.Replicas == ReplicasKafka || (c.Replicas == ReplicasAuto && c.PositionsInKafka())
}

// HasTopics tells whether events go to topics, which can be read back, and acts on record.
func (c *Config) HasTopics() bool { return c.Sink == SinkKafka }

// PublishesOnce tells whether events and position are one transaction.
func (c *Config) PublishesOnce() bool { return c.HasTopics() && c.Delivery == ExactlyOnce }

// KeepsPositions tells whether positions outlive the process.
func (c *Config) KeepsPositions() bool { return c.HasTopics() || c.Checkpoint.Store != StoreKafka }

// PositionsInKafka tells whether positions are kept in a topic.
func (c *Config) PositionsInKafka() bool { return c.HasTopics() && c.Checkpoint.Store == StoreKafka }
