package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readBackPatience is how long reading back waits for the next record: an open
// transaction of another producer holds it up for as long as its timeout.
const readBackPatience = 2 * time.Minute

// ErrNotReadable says that the brokers do not let this user read a topic.
var ErrNotReadable = errors.New("the topic may not be read")

// ReadBack hands over the ids of the events that topics hold, committed ones only,
// of records made at or after a time. It reads up to the ends that the topics have
// when it is called, transactions that are open then included. Records that are no
// events are left out.
//
// An error that is ErrNotReadable says that the user lacks Read on a topic.
func ReadBack(ctx context.Context, client []kgo.Opt, topics []string, since time.Time, each func(id string)) error {
	place, err := spans(ctx, client, topics, since)
	if err != nil || len(place.left) == 0 {
		return err
	}
	own := []kgo.Opt{
		kgo.ConsumePartitions(place.begin), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Marks of transactions tell that an end has been reached.
		kgo.KeepControlRecords(),
	}
	consumer, err := kgo.NewClient(append(append([]kgo.Opt{}, client...), own...)...)
	if err != nil {
		return fmt.Errorf("configure kafka client: %w", err)
	}
	defer consumer.Close()
	for len(place.left) > 0 {
		polling, cancel := context.WithTimeout(ctx, readBackPatience)
		fetches := consumer.PollFetches(polling)
		cancel()
		if err := fetches.Err0(); err != nil {
			return unread(ctx, topics, err)
		}
		for _, e := range fetches.Errors() {
			return readable(e.Topic, e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := partition{r.Topic, r.Partition}
			if last, ok := place.left[p]; ok && r.Offset >= last {
				delete(place.left, p)
			}
			if r.Attrs.IsControl() {
				return
			}
			if id, ok := EventID(r); ok {
				each(id)
			}
		})
	}
	return nil
}

// unread explains an error that is of no topic: what the client finds out before it
// fetches, such as that it may not read a topic, it does not tell of a topic.
func unread(ctx context.Context, topics []string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("read topics back: %w", context.Cause(ctx))
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return readable(strings.Join(topics, ", "), err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("read topics back: nothing for %s; an open transaction may hold it up: %w", readBackPatience, err)
	}
	return fmt.Errorf("read topics back: %w", err)
}

type partition struct {
	topic string
	id    int32
}

// span is what is read of topics: where each partition begins, and its last offset.
type span struct {
	begin map[string]map[int32]kgo.Offset
	left  map[partition]int64
}

func spans(ctx context.Context, options []kgo.Opt, topics []string, since time.Time) (span, error) {
	s := span{begin: map[string]map[int32]kgo.Offset{}, left: map[partition]int64{}}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return s, fmt.Errorf("configure kafka client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return s, fmt.Errorf("list ends of topics: %w", err)
	}
	begins, err := admin.ListOffsetsAfterMilli(ctx, since.UnixMilli(), topics...)
	if err != nil {
		return s, fmt.Errorf("list offsets of topics: %w", err)
	}
	var failed error
	ends.Each(func(end kadm.ListedOffset) {
		begin, ok := begins.Lookup(end.Topic, end.Partition)
		switch {
		case end.Err != nil:
			failed = readable(end.Topic, end.Err)
		case ok && begin.Err != nil:
			failed = readable(end.Topic, begin.Err)
		case ok && begin.Offset < end.Offset:
			if s.begin[end.Topic] == nil {
				s.begin[end.Topic] = map[int32]kgo.Offset{}
			}
			s.begin[end.Topic][end.Partition] = kgo.NewOffset().At(begin.Offset)
			s.left[partition{end.Topic, end.Partition}] = end.Offset - 1
		}
	})
	return s, failed
}

func readable(topic string, err error) error {
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return fmt.Errorf("read topic %s back: %w: give the user Read on it: %w", topic, ErrNotReadable, err)
	}
	return fmt.Errorf("read topic %s back: %w", topic, err)
}

// EventID is the id of the event that a record holds, false if it holds none: ce_id
// of a binary CloudEvent, else the member id of the body.
func EventID(r *kgo.Record) (string, bool) {
	for _, h := range r.Headers {
		if h.Key == "ce_id" {
			return string(h.Value), len(h.Value) > 0
		}
	}
	// The beginnings of the events made here, which need no parsing.
	for _, head := range []string{`{"resourceType":"AuditEvent","id":"`, `{"specversion":"1.0","id":"`} {
		if rest, ok := bytes.CutPrefix(r.Value, []byte(head)); ok {
			if end := bytes.IndexByte(rest, '"'); end == uuidLength {
				return string(rest[:end]), true
			}
		}
	}
	var body struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(r.Value, &body) != nil {
		return "", false
	}
	return body.ID, body.ID != ""
}

// uuidLength is the length of a UUID's text.
const uuidLength = 36
