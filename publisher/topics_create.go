package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// createTimeout bounds how long a new topic may take to be known.
	createTimeout = 30 * time.Second
	createPoll    = 100 * time.Millisecond
	// registerTimeout is how long brokers that have just been started may take to count for
	// a replication factor.
	registerTimeout = 5 * time.Second
)

// topicSettings are those of a topic that is made here.
type topicSettings struct {
	partitions int
	configs    []topicConfig
}

type topicConfig struct{ name, value string }

// settings are what a missing topic is made with. The position topic is cleaned
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
		for errors.Is(err, kerr.InvalidReplicationFactor) && time.Now().Before(patience) && pause(ctx) {
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
		if !pause(ctx) {
			return fmt.Errorf("wait for new topics %s: %w", strings.Join(topics, ", "), ctx.Err())
		}
	}
}

// pause waits between two questions; false if ctx has ended.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(createPoll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
