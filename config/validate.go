package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// faults are all that is wrong.
func (c *Config) faults() []Fault {
	v := validator{cfg: c}
	for _, s := range specs() {
		if s.section() {
			continue
		}
		if wrong := s.wrongWith(fieldOf(c, s.key)); wrong != "" {
			v.fault(s.key, wrong)
		}
	}
	v.kinds()
	v.mongoDB()
	v.streams()
	v.kafka()
	v.topics()
	v.checkpoint()
	v.http()
	if c.Retry.MinBackoff > c.Retry.MaxBackoff {
		v.fault("retry.max_backoff", "is less than retry.min_backoff")
	}
	return v.faults
}

// validator collects faults of keys that depend on each other.
type validator struct {
	cfg    *Config
	faults []Fault
}

func (v *validator) fault(key, message string) {
	v.faults = append(v.faults, Fault{Key: key, Origin: v.cfg.origins[key].text, Message: message})
}

func (v *validator) kinds() {
	e := v.cfg.Events
	if len(e.Enabled()) == 0 {
		v.faults = append(v.faults, Fault{Key: "events", Message: noKind()})
	}
	if e.DataChangeWindow%time.Second != 0 {
		v.fault("events.data_change_window", "is not of whole seconds, which cluster times are")
	}
	for _, kind := range mapper.Kinds() {
		if kind.ResourcesVariable == "" {
			continue
		}
		key := "events." + string(kind.Name)
		if len(e.ResourcesOf(kind)) == 0 && e.Of(kind.Name).Enabled {
			v.fault(key+".resources", "names no resource type; name some, or set "+key+".enabled: false")
		}
		for _, r := range e.ResourcesOf(kind) {
			if wrong := checkResource(r); wrong != "" {
				v.fault(key+".resources", wrong)
			}
		}
	}
}

// noKind names every way to switch a kind on.
func noKind() string {
	var server, own []string
	for _, s := range specs() {
		if slices.Contains(kindKeys(), s.key) {
			server = append(server, s.server...)
			own = append(own, s.env())
		}
	}
	return fmt.Sprintf("no kind of event is enabled: set at least one of %s to 1 (or one of %s to true), or give a configuration file that enables one",
		strings.Join(server, ", "), strings.Join(own, ", "))
}

func (v *validator) mongoDB() {
	m := &v.cfg.MongoDB
	if wrong := checkHostname(m.Hostname); wrong != "" {
		v.fault("mongodb.hostname", wrong)
	}
	if m.URI == "" && m.Hostname == "" {
		v.fault("mongodb.uri", "is not set: set it in the file, by FHIR_CDC_MONGODB_URI, or by the FHIR server's MONGO_URL (or MONGO_HOSTNAME and MONGO_PORT)")
	}
	if m.Database == "" {
		v.fault("mongodb.database", "is empty")
	}
	for _, s := range m.credentials() {
		if *s.password != "" && *s.username == "" {
			v.fault(s.section+".password", "is set, but "+s.section+".username is not")
		}
		switch {
		case *s.uri != "":
			v.uri(s.section+".uri", withUser(*s.uri, *s.username, *s.password))
		case *s.username != "" && s.section != "mongodb":
			v.fault(s.section+".username", "is set, but "+s.section+".uri is not: credentials go with their own connection string")
		}
	}
	if own := v.cfg.Checkpoint.MongoDB.URI; own != "" {
		v.uri("checkpoint.mongodb.uri", own)
	}
}

func (v *validator) uri(key string, uri Secret) {
	if wrong := checkURI(uri.Reveal()); wrong != "" {
		v.fault(key, wrong)
	}
}

func (v *validator) kafka() {
	c := v.cfg
	if len(c.Kafka.Brokers) == 0 && c.HasTopics() {
		v.fault("kafka.brokers", "is not set: set it in the file, by FHIR_CDC_KAFKA_BROKERS, or by the FHIR server's KAFKA_URLS (or try out without Kafka: sink: stdout)")
	}
	for _, b := range c.Kafka.Brokers {
		if wrong := checkBroker(b); wrong != "" {
			v.fault("kafka.brokers", wrong)
		}
	}
	v.tls(c.Kafka.TLS)
	v.sasl(c.Kafka.SASL)
}

func (v *validator) tls(t TLS) {
	if (t.CertFile == "") != (t.KeyFile == "") {
		v.fault("kafka.tls.cert_file", "goes together with kafka.tls.key_file: set both or none")
	}
	if !t.Enabled && (t.CAFile != "" || t.CertFile != "" || t.KeyFile != "" || t.ServerName != "") {
		v.fault("kafka.tls.enabled", "is false, but other kafka.tls keys are set: the connection would not be encrypted")
	}
}

func (v *validator) sasl(s SASL) {
	if !s.Enabled {
		return
	}
	switch s.Mechanism {
	case SASLPlain, SASLScramSHA256, SASLScramSHA512:
		if s.Username == "" {
			v.fault("kafka.sasl.username", "is not set; the mechanism "+string(s.Mechanism)+" needs it")
		}
		if s.Password == "" {
			v.fault("kafka.sasl.password", "is not set; the mechanism "+string(s.Mechanism)+" needs it")
		}
	case SASLOAuthBearer:
		v.oauth(s)
	case SASLAWS:
		// Credentials come from the AWS_* variables when connecting.
	}
}

func (v *validator) oauth(s SASL) {
	o := s.OAuth
	switch {
	case s.Token == "" && o.TokenEndpoint == "":
		v.fault("kafka.sasl.oauth.token_endpoint", "is not set; the mechanism oauthbearer needs it, with kafka.sasl.oauth.client_id and client_secret (or kafka.sasl.token with a token from elsewhere)")
	case s.Token != "" && o.TokenEndpoint != "":
		v.fault("kafka.sasl.token", "is set, but so is kafka.sasl.oauth.token_endpoint: unset one of them")
	case o.TokenEndpoint != "" && o.ClientID == "":
		v.fault("kafka.sasl.oauth.client_id", "is not set; kafka.sasl.oauth.token_endpoint needs it")
	case o.TokenEndpoint != "" && o.ClientSecret == "":
		v.fault("kafka.sasl.oauth.client_secret", "is not set; kafka.sasl.oauth.token_endpoint needs it")
	}
	for _, e := range o.Extensions {
		if wrong := checkExtension(e); wrong != "" {
			v.fault("kafka.sasl.oauth.extensions", wrong)
		}
	}
}

// topics makes sure that positions and dead letters share no topic with anything:
// compaction of the one would eat the other.
func (v *validator) topics() {
	c := v.cfg
	var events []string
	for _, kind := range mapper.Kinds() {
		events = append(events, c.Events.Of(kind.Name).Topic)
	}
	if slices.Contains(events, c.Topics.Positions) {
		v.fault("topics.positions", "is the topic of events too; positions need their own")
	}
	if slices.Contains(events, c.Topics.DeadLetters) {
		v.fault("topics.dead_letters", "is the topic of events too; dead letters need their own")
	}
	if slices.Contains(append(events, c.Topics.Positions, c.Topics.DeadLetters), c.Topics.Audit) {
		v.fault("topics.audit", "is the topic of something else too; the audit needs its own")
	}
	if c.Topics.Positions == c.Topics.DeadLetters {
		v.fault("topics.dead_letters", "is the topic of positions too; dead letters need their own")
	}
	if c.Topics.ReplicationFactor == 0 {
		v.fault("topics.replication_factor", "is 0: use -1 for the broker's default, or 1 and more")
	}
}

func (v *validator) checkpoint() {
	c := v.cfg
	if c.Replicas == ReplicasKafka && !c.PositionsInKafka() {
		v.fault("replicas", "kafka needs sink: kafka and checkpoint.store: kafka, where the replicas find each other's positions")
	}
	if c.PublishesOnce() && !c.PositionsInKafka() {
		v.fault("checkpoint.store", "must be kafka for delivery: exactly_once, because position and events are one Kafka transaction; or set delivery: at_least_once")
	}
	if c.Checkpoint.Store == StoreFile && c.Checkpoint.File.Path == "" {
		v.fault("checkpoint.file.path", "is empty")
	}
	if c.Checkpoint.Store == StoreMongoDB && c.Checkpoint.MongoDB.Database == "" {
		v.fault("checkpoint.mongodb.database", "is empty")
	}
}

// minToken is the least length of http.token: a shorter one can be guessed.
const minToken = 16

func (v *validator) http() {
	h := v.cfg.HTTP
	if n := len(h.Token.Reveal()); n > 0 && n < minToken {
		v.fault("http.token", fmt.Sprintf("can be guessed: it has %d of the %d characters that it needs at least (openssl rand -hex 32 makes one)", n, minToken))
	}
	for _, name := range h.AllowedHosts {
		if strings.ContainsAny(name, ":/*") {
			v.fault("http.allowed_hosts", shown(name)+" is more than a name: leave scheme, port and path away")
		}
	}
	if (h.TLS.CertFile == "") != (h.TLS.KeyFile == "") {
		v.fault("http.tls.cert_file", "goes together with http.tls.key_file: set both or none")
	}
}
