package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/tail"
)

// newRecords consumes the topics that are shown, from their present end: where events
// go, and what could not become one.
func newRecords(ctx context.Context, s *stage) (*tail.Consumer, error) {
	topics := append(s.site.Topics.Events(), s.site.Topics.DeadLetters)
	return tail.NewConsumer(ctx, []kgo.Opt{kgo.SeedBrokers(s.kafka.Brokers...)}, topics, tail.Start{})
}
