package publisher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// askAgain is how long an answer about a topic's limit holds: each event that is too large
// asks, and there may be many.
const askAgain = 5 * time.Second

// Limits are the topics' max.message.bytes, which an operator may change while a process
// runs. They may be used by several goroutines.
type Limits struct {
	client []kgo.Opt

	mu    sync.Mutex
	known map[string]int
	asked map[string]time.Time
}

// NewLimits begins with what CheckTopics has found.
func NewLimits(client []kgo.Opt, report Report) *Limits {
	return &Limits{client: client, known: maps.Clone(report.MaxMessageBytes), asked: map[string]time.Time{}}
}

// Known are the limits as they were asked for last, for Options.TopicMaxBytes; nil of nil
// Limits.
func (l *Limits) Known() map[string]int {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.known)
}

// Ask asks the brokers for a topic's limit anew, unless that was done in the last seconds.
// A topic whose configuration may not be read keeps the limit that is known. It gives up
// after about ten seconds without an answer; trying again may help then. Nobody waits for
// the answer but those who ask.
func (l *Limits) Ask(ctx context.Context, topic string) error {
	if l.fresh(topic) {
		return nil
	}
	client, err := newClient(l.client, kgo.RetryTimeout(clientRetries))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	configs, err := TopicConfigs(ctx, kadm.NewClient(client), topic)
	if err != nil && !unreadable(err) {
		return fmt.Errorf("ask for the limit of topic %s: %w", topic, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit, ok := maxMessageBytes(configs); ok {
		l.known[topic] = limit
	}
	l.asked[topic] = time.Now()
	return nil
}

// fresh tells whether a topic's limit was asked for a moment ago.
func (l *Limits) fresh(topic string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.asked[topic]) < askAgain
}

// TopicConfigs is the configuration of a topic. One is asked for at a time: a topic that may not be read
// fails the whole request.
func TopicConfigs(ctx context.Context, admin *kadm.Client, topic string) ([]kadm.Config, error) {
	all, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	described, err := all.On(topic, nil)
	if err == nil {
		err = described.Err
	}
	return described.Configs, err
}

// unreadable tells that the user may not read a topic's configuration.
func unreadable(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}
