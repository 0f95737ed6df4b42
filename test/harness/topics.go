package harness

import (
	"context"
	"fmt"
	"testing"

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
	return nil
}
