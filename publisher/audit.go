package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// AuditAction names the act that an AuditRecord records.
type AuditAction string

// The actions. Whatever makes a stream do something else than carry change after
// change is one of them.
const (
	// AuditGap says that the oplog lost changes before they were read, and from
	// which time to which.
	AuditGap AuditAction = "gap"
	// AuditRepaired says that what a gap left out has been published.
	AuditRepaired AuditAction = "repaired"
	// AuditPositionSet says that an operator moved a stream's position.
	AuditPositionSet AuditAction = "position_set"
	// AuditReplayed says that a span was published again.
	AuditReplayed AuditAction = "replayed"
	// AuditBackfilled says that events were published from collections.
	AuditBackfilled AuditAction = "backfilled"
	// AuditCompleted says that events which a topic lacked were published.
	AuditCompleted AuditAction = "verify_repaired"
	// AuditRetried says that the events of dead letters were published.
	AuditRetried AuditAction = "dead_letters_retried"
	// AuditControl says that a control of the HTTP port was used.
	AuditControl AuditAction = "control"
	// AuditCollectionGone says that a watched collection or database was dropped, renamed or
	// replaced by another collection.
	AuditCollectionGone AuditAction = "collection_gone"
	// AuditLayoutChanged says that the streams of an installation were divided anew.
	AuditLayoutChanged AuditAction = "layout_changed"
)

// AuditRecord is one entry of the audit topic: what was done to an installation,
// by whom and when. It holds positions, times and counts, never contents of
// documents.
type AuditRecord struct {
	// Time is when it was done; Record and Kafka set it where it is zero.
	Time time.Time `json:"time"`
	// Name is the installation's name, Stream the stream's ("" for all).
	Name   string `json:"name"`
	Stream string `json:"stream,omitempty"`
	// Action is what was done.
	Action AuditAction `json:"action"`
	// Actor is the process, or the user and host of a command.
	Actor string `json:"actor"`
	// Details depend on the action: counts, positions before and after.
	Details map[string]any `json:"details,omitempty"`
}

// Audit writes to the audit topic. It is safe for use by several goroutines.
type Audit struct {
	options []kgo.Opt
	topic   string
}

// auditTimeout bounds the writing of one record. It is long enough for a change
// of the topic's leader.
const auditTimeout = 30 * time.Second

// NewAudit returns an Audit that reaches the brokers with the client options. It
// connects for each record: there are few, and hours apart.
func NewAudit(client []kgo.Opt, topic string) *Audit {
	return &Audit{options: client, topic: topic}
}

// Record writes r and waits until all in-sync replicas have it. Callers record an act before
// they do it, where they can choose the order.
func (a *Audit) Record(ctx context.Context, r AuditRecord) error {
	record, err := r.Kafka(a.topic)
	if err != nil {
		return err
	}
	client, err := newClient(a.options, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	err = client.ProduceSync(ctx, &record).FirstErr()
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("audit record %s: topic %s is missing; create it, or run with topics.create: true once: %w", r.Action, a.topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("audit record %s: the user needs Write and Describe on topic %s: %w", r.Action, a.topic, err)
	case err != nil:
		return fmt.Errorf("audit record %s to topic %s: %w", r.Action, a.topic, err)
	}
	return nil
}

// Kafka makes the record for the audit topic, for callers that publish it in one transaction with
// the events that it is about. A Time that is zero is now.
func (r AuditRecord) Kafka(topic string) (kgo.Record, error) {
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	r.Time = r.Time.UTC()
	value, err := compactJSON(r)
	if err != nil {
		return kgo.Record{}, fmt.Errorf("audit record %s: %w", r.Action, err)
	}
	return kgo.Record{Topic: topic, Key: []byte(auditKey(r)), Value: value}, nil
}

// auditKey keeps the records of one stream in order.
func auditKey(r AuditRecord) string {
	if r.Stream == "" {
		return r.Name
	}
	return r.Name + "/" + r.Stream
}

// DetailText is the details on one line: name=value, the value as JSON unless it is a text.
func (r *AuditRecord) DetailText() string {
	var parts []string
	for name, value := range r.Details {
		text, isText := value.(string)
		if !isText {
			encoded, err := json.Marshal(value)
			if err != nil {
				continue
			}
			text = string(encoded)
		}
		parts = append(parts, name+"="+text)
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
