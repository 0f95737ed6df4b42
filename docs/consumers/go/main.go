// Command go prints each event of topics once: go run . TOPIC...
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := consume(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func consume(ctx context.Context, topics []string) error {
	// The ids of the events that were printed.
	seenFile, err := os.OpenFile(cmp.Or(os.Getenv("SEEN"), "seen.txt"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer seenFile.Close()
	seen := map[string]bool{}
	for ids := bufio.NewScanner(seenFile); ids.Scan(); {
		seen[ids.Text()] = true
	}

	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(cmp.Or(os.Getenv("BROKERS"), "localhost:9094"), ",")...),
		kgo.ConsumerGroup(cmp.Or(os.Getenv("GROUP"), "fhir-cdc-example")),
		kgo.ConsumeTopics(topics...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // it reads uncommitted without
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, r := range fetches.Records() {
			id, err := eventID(r)
			if err != nil {
				return err
			}
			if seen[id] {
				continue
			}
			if _, err := fmt.Fprintf(os.Stdout, "%s\t%s\t%s\n", r.Topic, id, r.Value); err != nil {
				return err
			}
			seen[id] = true
			if _, err := fmt.Fprintln(seenFile, id); err != nil {
				return err
			}
		}
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			return err
		}
	}
}

// eventID is in a header, else the value's member id.
func eventID(r *kgo.Record) (string, error) {
	for _, h := range r.Headers {
		if h.Key == "ce_id" || h.Key == "event_id" {
			return string(h.Value), nil
		}
	}
	var value struct{ ID string }
	err := json.Unmarshal(r.Value, &value)
	return value.ID, err
}
