package harness

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Admin is a client for the topics of the brokers.
func Admin(t testing.TB, brokers []string) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatalf("make an admin client: %v", err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

// CreateTopics creates the site's topics as an operator would, the position topic
// compacted.
func (s Site) CreateTopics(ctx context.Context, admin *kadm.Client, partitions int32) error {
	responses, err := admin.CreateTopics(ctx, partitions, 1, nil, append(s.Topics.Events(), s.Topics.DeadLetters, s.Topics.Audit)...)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	compact := "compact"
	responses, err = admin.CreateTopics(ctx, 1, 1, map[string]*string{"cleanup.policy": &compact}, s.Topics.Positions)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return fmt.Errorf("create the position topic: %w", err)
	}
	return s.awaitTopics(ctx, admin)
}

// awaitTopics waits until the brokers tell of all topics: they learn of new ones after
// the controller has answered.
func (s Site) awaitTopics(ctx context.Context, admin *kadm.Client) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		// With rights the answer comes from a broker, not from the client's memory.
		topics, err := admin.ListTopics(kadm.WithAuthorizedOps(ctx), s.Topics.All()...)
		if err == nil {
			err = topics.Error()
		}
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the new topics: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}
