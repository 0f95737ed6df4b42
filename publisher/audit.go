package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// AuditAction names what an AuditRecord tells of.
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
	// AuditVerifyRepaired says that events which a topic lacked were published.
	AuditVerifyRepaired AuditAction = "verify_repaired"
	// AuditControl says that a control of the HTTP port was used.
	AuditControl AuditAction = "control"
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

// Record writes r and waits until all in-sync replicas have it. What the record
// tells of must not be done without it where the order can be chosen.
func (a *Audit) Record(ctx context.Context, r AuditRecord) error {
	record, err := r.Kafka(a.topic)
	if err != nil {
		return err
	}
	own := []kgo.Opt{kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0)}
	client, err := kgo.NewClient(append(append([]kgo.Opt{}, a.options...), own...)...)
	if err != nil {
		return fmt.Errorf("configure kafka client: %w", err)
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

// Kafka makes the record for the audit topic, for those who publish it together with
// what it tells of. A Time that is zero is now.
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
