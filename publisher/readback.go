package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// ErrNotReadable says that the brokers do not let this user read a topic.
var ErrNotReadable = errors.New("the topic may not be read")

// ReadBack hands over the ids of the events that topics hold, committed ones only,
// of records made at or after a time. It reads up to the ends that the topics have
// when it is called, transactions that are open then included: these have as long as patience
// says to end, and 2 min at least, for they may be another producer's. Records that are no
// events are left out.
//
// An error that is ErrNotReadable says that the user lacks Read on a topic.
func ReadBack(ctx context.Context, client []kgo.Opt, topics []string, since time.Time, patience Patience, each func(id string)) error {
	err := readBack(ctx, client, topics, since, patience, each)
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed) && !errors.As(err, new(*kadm.AuthError)): // that one is of a request, not of a topic
		return fmt.Errorf("read topics back: %w: give the user Read on it: %w", ErrNotReadable, err)
	case err != nil:
		return fmt.Errorf("read topics back: %w", err)
	}
	return nil
}

func readBack(ctx context.Context, client []kgo.Opt, topics []string, since time.Time, patience Patience, each func(id string)) error {
	patience.Limit = max(patience.Limit, readStall)
	reader, err := OpenTopics(ctx, client, topics, since, patience)
	if err != nil {
		return err
	}
	defer reader.Close()
	for topic, partitions := range reader.Ranges {
		for p, part := range partitions {
			if part.top > part.End {
				return fmt.Errorf("topic %s, partition %d: a transaction at offset %d has been open for %s and holds it up", topic, p, part.End, terminal.Duration(patience.Limit))
			}
		}
	}
	events := mapper.NewRecords()
	return reader.Each(ctx, func(r *kgo.Record) error {
		if id := events.EventID(RecordOf(r)); len(id) > 0 {
			each(string(id))
		}
		return nil
	})
}

// RecordOf is a record as the mapper reads it.
func RecordOf(r *kgo.Record) mapper.Record {
	record := mapper.Record{Value: r.Value}
	for _, h := range r.Headers {
		record.Header(h.Key, h.Value)
	}
	return record
}
