package publisher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/fhir-cdc/fhir-cdc/handshake"
	"github.com/fhir-cdc/fhir-cdc/terminal"
	"github.com/fhir-cdc/fhir-cdc/wait"
)

const (
	// reachTimeout is how long CheckTopics tries to reach a broker; the client's
	// own patience is shorter, so that its error has the cause.
	reachTimeout  = 10 * time.Second
	clientRetries = 6 * time.Second
)

// Requirements say which topics must exist, and the settings of topics that are made here.
type Requirements struct {
	// Events are the topics of the events.
	Events []string
	// Positions is the position topic; empty where positions are kept elsewhere.
	Positions string
	// DeadLetters is the dead-letter topic; empty where there is none.
	DeadLetters string
	// Audit is the audit topic; empty where there is none.
	Audit string
	// Rights are the operations that the user has to be allowed on a topic, where they
	// are others than a daemon's: Write, and on the position topic Read too. An
	// empty list stands for Describe.
	Rights map[string][]kmsg.ACLOperation
	// TransactionalIDs are the streams' ids.
	TransactionalIDs []string
	// Trial is a transactional id that no stream has, to find out whether the brokers
	// take TransactionTimeout; empty to try nothing.
	Trial              string
	TransactionTimeout time.Duration
	// Create has missing topics made. Without it they are an error.
	Create bool
	// DaemonCreates says that the daemon makes missing topics, though this process must not.
	DaemonCreates bool
	// Partitions are for event and dead-letter topics that are made here,
	// PositionPartitions for the position topic.
	Partitions, PositionPartitions int
	// ReplicationFactor is for topics that are made here; -1 leaves it to the
	// brokers.
	ReplicationFactor int
}

// The largest records of our own, with their framing. Events have no such size: one that is
// too large for its topic goes to the dead-letter topic.
const (
	// positionBytes is the size of a position: up to two tokens (the second one's in a repair) of
	// 16 kB each, 26 kB of runs, and the rest of a change of the streams.
	positionBytes = 64 << 10
	// deadLetterBytes is the size of a dead letter, whose id and token are cut.
	deadLetterBytes = 16 << 10
	// auditBytes is the size of an audit record: positions before and after, counts.
	auditBytes = 16 << 10
)

// LeastMessageBytes is what the max.message.bytes of a topic must be at least, 0 if the
// daemon gets along with anything.
func (r Requirements) LeastMessageBytes(topic string) int {
	least := 0
	for _, own := range []struct {
		topic string
		bytes int
	}{{r.Positions, positionBytes}, {r.DeadLetters, deadLetterBytes}, {r.Audit, auditBytes}} {
		if own.topic == topic {
			least = max(least, own.bytes)
		}
	}
	return least
}

// Report is what CheckTopics has found.
type Report struct {
	// MaxMessageBytes is each topic's limit, for Options.TopicMaxBytes. A topic
	// whose configuration may not be read is not in it.
	MaxMessageBytes map[string]int
	// Partitions is each topic's number of partitions.
	Partitions map[string]int
	// Created are the topics that were made, in the order of Requirements.
	Created []string
	// Warnings are for the operator; the daemon can work.
	Warnings []string
}

// CheckTopics reaches the brokers and makes sure that the topics are there and
// fit: all that is missing or unfit is in one *ConfigurationError. It gives up
// after about ten seconds without an answer; trying again may help then.
func CheckTopics(ctx context.Context, client []kgo.Opt, req Requirements) (Report, error) {
	cl, err := newClient(client, kgo.RetryTimeout(clientRetries))
	if err != nil {
		return Report{}, err
	}
	defer cl.Close()
	c := topicCheck{
		client: cl,
		admin:  kadm.NewClient(cl),
		req:    req,
		report: Report{MaxMessageBytes: make(map[string]int), Partitions: make(map[string]int)},
	}
	if err := c.run(ctx); err != nil {
		return Report{}, configurationFault(fmt.Errorf("check topics: %w", err))
	}
	return c.report, nil
}

type topicCheck struct {
	client *kgo.Client
	admin  *kadm.Client
	req    Requirements
	report Report
}

func (c *topicCheck) run(ctx context.Context) error {
	names := c.names()
	missing, err := c.list(ctx, names)
	if err != nil {
		// All that an operator has to give is in one error.
		return errors.Join(err, c.otherRights(ctx))
	}
	if len(missing) > 0 {
		if !c.req.Create {
			return c.missingError(missing)
		}
		if err := c.create(ctx, missing); err != nil {
			return err
		}
		if err := c.awaitTopics(ctx, missing); err != nil {
			return err
		}
	}
	return errors.Join(c.describe(ctx, names), c.otherRights(ctx))
}

// names are all topics once: events of several kinds may share one.
func (c *topicCheck) names() []string {
	var names []string
	for _, name := range append(slices.Clone(c.req.Events), c.req.Positions, c.req.DeadLetters, c.req.Audit) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// list finds out which topics are there, and notes their partitions.
func (c *topicCheck) list(ctx context.Context, names []string) (missing []string, err error) {
	limited, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	topics, err := DescribeTopics(limited, c.client, names)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	var faults []error
	for _, topic := range topics {
		if topic.Topic == nil {
			continue
		}
		name := *topic.Topic
		switch err := kerr.ErrorForCode(topic.ErrorCode); {
		case err == nil:
			c.report.Partitions[name] = len(topic.Partitions)
			faults = append(faults, c.topicRights(name, topic.AuthorizedOperations))
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			missing = append(missing, name)
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			faults = append(faults, lacking(name, inWords(c.neededOn(name))))
		default:
			faults = append(faults, fmt.Errorf("topic %s: %w", name, err))
		}
	}
	// Brokers answer in no order.
	slices.SortFunc(missing, func(a, b string) int { return slices.Index(names, a) - slices.Index(names, b) })
	return missing, errors.Join(faults...)
}

// unreachable says which brokers did not answer, and why if that is known.
func (c *topicCheck) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	brokers, _ := c.client.OptValue(kgo.SeedBrokers).([]string)
	at := strings.Join(brokers, ", ")
	if fault := tlsMismatch(ctx, err); fault != nil {
		return &ConfigurationError{fmt.Errorf("no connection to the brokers at %s: %w", at, fault)}
	}
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("the brokers at %s refuse the login: %w", at, err)
	case errors.Is(err, kerr.IllegalSaslState):
		return &ConfigurationError{fmt.Errorf("the brokers at %s take no login there, and kafka.sasl.enabled is true: set it to false (KAFKA_SASL=false), or give the address of a listener with SASL: %w", at, err)}
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Errorf("the brokers at %s do not know the SASL mechanism: %w", at, err)
	case errors.As(err, new(*refusedClient)):
		return &ConfigurationError{err}
	case handshake.Refused(err):
		return &ConfigurationError{fmt.Errorf("no TLS connection to the brokers at %s (check kafka.tls and the brokers' certificates): %w", at, err)}
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no broker at %s answers within %s: %w", at, terminal.Duration(reachTimeout), err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the brokers at %s close the connection; %s: %w", at, c.closes(), err)
	}
	return fmt.Errorf("no broker at %s can be reached: %w", at, err)
}

// closes says what to look at where brokers close connections.
func (c *topicCheck) closes() string {
	if login, _ := c.client.OptValue(kgo.SASL).([]sasl.Mechanism); len(login) == 0 {
		return "kafka.sasl.enabled is false: does their listener ask for a login, or for TLS (kafka.tls)?"
	}
	return "do kafka.tls and kafka.sasl fit their listener?"
}

// describe reads the topics' limits and makes sure that positions are kept.
func (c *topicCheck) describe(ctx context.Context, names []string) error {
	var faults []error
	for _, name := range names {
		configs, err := TopicConfigs(ctx, c.admin, name)
		switch {
		case err != nil && unreadable(err):
			c.report.Warnings = append(c.report.Warnings, fmt.Sprintf(
				"the configuration of topic %s may not be read: its size limit is taken to be kafka.max_record_bytes; the user needs DescribeConfigs on it", name))
		case err != nil:
			faults = append(faults, fmt.Errorf("describe topic %s: %w", name, err))
		default:
			faults = append(faults, c.noteConfigs(name, configs))
		}
	}
	return errors.Join(faults...)
}

// noteConfigs keeps a topic's limit and checks the topics of our own.
func (c *topicCheck) noteConfigs(name string, configs []kadm.Config) error {
	if limit, ok := maxMessageBytes(configs); ok {
		c.report.MaxMessageBytes[name] = limit
		if least := c.req.LeastMessageBytes(name); limit < least {
			return &unfit{fmt.Sprintf("topic %s has max.message.bytes=%d, too little for what fhir-cdc writes to it: set max.message.bytes=%d or more", name, limit, least)}
		}
	}
	for _, config := range configs {
		if config.Key == "cleanup.policy" && name == c.req.Positions {
			return checkPolicy(name, config.MaybeValue())
		}
	}
	return nil
}

// maxMessageBytes is the limit among a topic's configuration.
func maxMessageBytes(configs []kadm.Config) (int, bool) {
	for _, config := range configs {
		if config.Key == "max.message.bytes" {
			limit, err := strconv.Atoi(config.MaybeValue())
			return limit, err == nil
		}
	}
	return 0, false
}

// checkPolicy refuses a position topic that would delete positions: a deleted position
// makes the stream start anew and skip changes.
func checkPolicy(topic, policy string) error {
	policies := strings.Split(policy, ",")
	if slices.Contains(policies, "compact") && !slices.Contains(policies, "delete") {
		return nil
	}
	return &unfit{fmt.Sprintf("position topic %s has cleanup.policy=%s, with which positions get lost: set cleanup.policy=compact", topic, policy)}
}

const (
	// createTimeout bounds how long a new topic may take to be known.
	createTimeout = 30 * time.Second
	createPoll    = 100 * time.Millisecond
	// registerTimeout is how long brokers that have just been started may take to count for
	// a replication factor.
	registerTimeout = 5 * time.Second
)

// topicSettings are the settings of a topic that is made here.
type topicSettings struct {
	partitions int
	configs    []topicConfig
}

type topicConfig struct{ name, value string }

// settings are the settings for making a missing topic. The position topic is cleaned
// often and in small segments: a start reads back to the last position. The audit
// topic is in one order, and nothing of it is forgotten.
func (c *topicCheck) settings(topic string) topicSettings {
	switch topic {
	case c.req.Positions:
		return topicSettings{partitions: c.req.PositionPartitions, configs: []topicConfig{
			{"cleanup.policy", "compact"},
			{"segment.ms", "600000"},
			{"min.cleanable.dirty.ratio", "0.1"},
		}}
	case c.req.Audit:
		return topicSettings{partitions: 1, configs: []topicConfig{{"retention.ms", "-1"}}}
	}
	return topicSettings{partitions: c.req.Partitions}
}

func (c *topicCheck) describeSettings(topic string) string {
	s := c.settings(topic)
	text := fmt.Sprintf("%s (%d partitions", topic, s.partitions)
	if s.partitions == 1 {
		text = topic + " (1 partition"
	}
	for _, config := range s.configs {
		text += fmt.Sprintf(", %s=%s", config.name, config.value)
	}
	return text + ")"
}

// missingError names every missing topic and both ways to get them.
func (c *topicCheck) missingError(missing []string) error {
	list := make([]string, len(missing))
	for i, topic := range missing {
		list[i] = c.describeSettings(topic)
	}
	factor := fmt.Sprintf("replication factor %d", c.req.ReplicationFactor)
	if c.req.ReplicationFactor < 0 {
		factor = "the brokers' replication factor"
	}
	if c.req.DaemonCreates {
		return &unfit{fmt.Sprintf("missing: %s. The daemon creates them when it first runs (topics.create: true): has it run with this configuration?", strings.Join(missing, ", "))}
	}
	return &unfit{fmt.Sprintf("missing: %s. Create them, or set topics.create: true (FHIR_CDC_TOPICS_CREATE=true) to have them made like this, with %s",
		strings.Join(list, ", "), factor)}
}

func (c *topicCheck) create(ctx context.Context, missing []string) error {
	var faults []error
	patience := time.Now().Add(registerTimeout)
	for _, topic := range missing {
		s := c.settings(topic)
		configs := make(map[string]*string, len(s.configs))
		for _, config := range s.configs {
			configs[config.name] = &config.value
		}
		made, err := c.admin.CreateTopic(ctx, int32(s.partitions), int16(c.req.ReplicationFactor), configs, topic)
		for errors.Is(err, kerr.InvalidReplicationFactor) && time.Now().Before(patience) && wait.Sleep(ctx, createPoll) == nil {
			made, err = c.admin.CreateTopic(ctx, int32(s.partitions), int16(c.req.ReplicationFactor), configs, topic)
		}
		switch {
		case err == nil:
			c.report.Created = append(c.report.Created, topic)
		case errors.Is(err, kerr.TopicAlreadyExists): // another replica was faster
		case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
			faults = append(faults, fmt.Errorf("create topic %s: the user needs Create on it or on the cluster: %w", topic, err))
		default:
			if made.ErrMessage != "" {
				err = fmt.Errorf("%w: %s", err, made.ErrMessage)
			}
			faults = append(faults, fmt.Errorf("create topic %s: %w", topic, err))
		}
	}
	return errors.Join(faults...)
}

// awaitTopics waits until the brokers know the new topics and their leaders.
func (c *topicCheck) awaitTopics(ctx context.Context, topics []string) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	for {
		missing, err := c.list(ctx, slices.Clone(topics))
		if err != nil && !kerr.IsRetriable(err) {
			return err
		}
		if err == nil && len(missing) == 0 {
			return nil
		}
		if wait.Sleep(ctx, createPoll) != nil {
			return fmt.Errorf("wait for new topics %s: %w", strings.Join(topics, ", "), ctx.Err())
		}
	}
}
