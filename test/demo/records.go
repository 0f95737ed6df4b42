package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// The kinds of events, as the configuration calls them.
const (
	kindChange             = "change"
	kindExport             = "export"
	kindAccessedEverything = "accessed_everything"
	kindDeadLetter         = "dead letter"
)

// records consumes the daemon's topics from where they ended, as a consumer that
// reads only what is committed. It is for one goroutine.
type records struct {
	admin  *kadm.Client
	client *kgo.Client
	topics harness.Topics
	// next is the offset behind the last record of each partition, the marks of
	// transactions included.
	next map[string]map[int32]int64
}

// newRecords starts at the present end of the topics, which must exist.
func newRecords(ctx context.Context, s *stage) (*records, error) {
	r := &records{admin: s.admin, topics: s.site.Topics, next: map[string]map[int32]int64{}}
	ends, err := r.firstEnds(ctx)
	if err != nil {
		return nil, err
	}
	at := map[string]map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if at[o.Topic] == nil {
			at[o.Topic], r.next[o.Topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		}
		at[o.Topic][o.Partition], r.next[o.Topic][o.Partition] = kgo.NewOffset().At(o.Offset), o.Offset
	})
	r.client, err = kgo.NewClient(
		kgo.SeedBrokers(s.kafka.Brokers...), kgo.ConsumePartitions(at),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // else the end of a partition would never be reached
		kgo.FetchMinBytes(1), kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return nil, fmt.Errorf("make consumer: %w", err)
	}
	return r, nil
}

// names are the topics that are shown: where events go, and what could not become
// one.
func (r *records) names() []string { return append(r.topics.Events(), r.topics.DeadLetters) }

func (r *records) ends(ctx context.Context) (kadm.ListedOffsets, error) {
	ends, err := r.admin.ListCommittedOffsets(ctx, r.names()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the ends of the topics: %w", err)
	}
	return ends, nil
}

// firstEnds asks until there is an answer: for a moment a broker does not know the
// topics that it has made.
func (r *records) firstEnds(ctx context.Context) (kadm.ListedOffsets, error) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ends, err := r.ends(ctx)
		if err == nil || !kerr.IsRetriable(err) {
			return ends, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// poll waits for records.
func (r *records) poll(ctx context.Context) ([]*kgo.Record, error) {
	fetches := r.client.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		return nil, errors.Join(context.Cause(ctx), fmt.Errorf("read records: %w", err))
	}
	var got []*kgo.Record
	fetches.EachRecord(func(record *kgo.Record) {
		r.next[record.Topic][record.Partition] = record.Offset + 1
		if !record.Attrs.IsControl() {
			got = append(got, record)
		}
	})
	return got, nil
}

// rest reads to the ends that the topics have now.
func (r *records) rest(ctx context.Context, each func(*kgo.Record)) error {
	ends, err := r.ends(ctx)
	if err != nil {
		return err
	}
	for slices.ContainsFunc(ends.Offsets().Sorted(), func(o kadm.Offset) bool { return r.next[o.Topic][o.Partition] < o.At }) {
		got, err := r.poll(ctx)
		if err != nil {
			return err
		}
		for _, record := range got {
			each(record)
		}
	}
	return nil
}

// kindOf tells the kind of event by the topic.
func (r *records) kindOf(topic string) string {
	switch topic {
	case r.topics.Change:
		return kindChange
	case r.topics.Export:
		return kindExport
	case r.topics.AccessedEverything:
		return kindAccessedEverything
	default:
		return kindDeadLetter
	}
}

func (r *records) close() { r.client.Close() }

// eventID is the id of the event in a record: a header of a usage event, a member
// of the others.
func eventID(r *kgo.Record) string {
	for _, h := range r.Headers {
		if h.Key == "ce_id" {
			return string(h.Value)
		}
	}
	var body struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(r.Value, &body) != nil {
		return ""
	}
	return body.ID
}
