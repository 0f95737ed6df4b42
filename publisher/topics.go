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

	"github.com/fhir-cdc/fhir-cdc/handshake"
)

const (
	// reachTimeout is how long CheckTopics tries to reach a broker; the client's
	// own patience is shorter, so that its error has the cause.
	reachTimeout  = 10 * time.Second
	clientRetries = 6 * time.Second
)

// Requirements say which topics there must be, and what they are to be like if
// they are made here.
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
	// are others than those of a daemon: Write, and on the position topic Read too. An
	// empty list stands for Describe.
	Rights map[string][]kmsg.ACLOperation
	// Group is the consumer group of the replicas; empty where there is none.
	Group string
	// TransactionalIDs are those of the streams.
	TransactionalIDs []string
	// Create has missing topics made. Without it they are an error.
	Create bool
	// Partitions are for event and dead-letter topics that are made here,
	// PositionPartitions for the position topic.
	Partitions, PositionPartitions int
	// ReplicationFactor is for topics that are made here; -1 leaves it to the
	// brokers.
	ReplicationFactor int
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
	cl, err := kgo.NewClient(append(append([]kgo.Opt{}, client...), kgo.RetryTimeout(clientRetries))...)
	if err != nil {
		return Report{}, fmt.Errorf("configure kafka client: %w", err)
	}
	defer cl.Close()
	c := topicCheck{
		client: cl,
		admin:  kadm.NewClient(cl),
		req:    req,
		report: Report{MaxMessageBytes: make(map[string]int), Partitions: make(map[string]int)},
	}
	if err := c.run(ctx); err != nil {
		return Report{}, sorted(fmt.Errorf("check topics: %w", err))
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
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	req.Topics = []kmsg.MetadataRequestTopic{} // nil would ask for all that there are
	for _, name := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(limited, c.client)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	var faults []error
	for _, topic := range resp.Topics {
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
			faults = append(faults, lacking(name, c.neededOn(name)))
		default:
			faults = append(faults, fmt.Errorf("topic %s: %w", name, err))
		}
	}
	return missing, errors.Join(faults...)
}

// unreachable says which brokers did not answer, and why if that is known.
func (c *topicCheck) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	brokers, _ := c.client.OptValue(kgo.SeedBrokers).([]string)
	at := strings.Join(brokers, ", ")
	if fault := misfit(ctx, err); fault != nil {
		return &ConfigurationError{fmt.Errorf("no connection to the brokers at %s: %w", at, fault)}
	}
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("the brokers at %s refuse the login: %w", at, err)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Errorf("the brokers at %s do not know the SASL mechanism: %w", at, err)
	case errors.As(err, new(*refusedClient)):
		return &ConfigurationError{err}
	case handshake.Refused(err):
		return &ConfigurationError{fmt.Errorf("no TLS connection to the brokers at %s (check kafka.tls and the brokers' certificates): %w", at, err)}
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no broker at %s answers within %s: %w", at, reachTimeout, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the brokers at %s close the connection; do kafka.tls and kafka.sasl fit their listener? %w", at, err)
	}
	return fmt.Errorf("no broker at %s can be reached: %w", at, err)
}

// describe reads the topics' limits and makes sure that positions are kept.
func (c *topicCheck) describe(ctx context.Context, names []string) error {
	var faults []error
	for _, name := range names {
		configs, err := topicConfigs(ctx, c.admin, name)
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

// noteConfigs keeps a topic's limit and checks the position topic.
func (c *topicCheck) noteConfigs(name string, configs []kadm.Config) error {
	if limit, ok := maxMessageBytes(configs); ok {
		c.report.MaxMessageBytes[name] = limit
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

// checkPolicy refuses a position topic that would forget: a deleted position
// makes the stream start anew and skip changes.
func checkPolicy(topic, policy string) error {
	policies := strings.Split(policy, ",")
	if slices.Contains(policies, "compact") && !slices.Contains(policies, "delete") {
		return nil
	}
	return &unfit{fmt.Sprintf("position topic %s has cleanup.policy=%s, with which positions get lost: set cleanup.policy=compact", topic, policy)}
}
