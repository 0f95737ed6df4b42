package installation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/fhir-cdc/fhir-cdc/publisher"
)

// MayRead makes sure that topics can be read.
func (o *Installation) MayRead(ctx context.Context, topics ...string) error {
	if !o.Config.HasTopics() {
		return Usagef("sink: stdout writes to no topics")
	}
	var needed publisher.Requirements
	for _, topic := range topics {
		if topic == o.Config.Topics.Audit { // it is made in another way than the others
			needed.Audit = topic
			continue
		}
		needed.Events = append(needed.Events, topic)
	}
	Requiring(&needed, ToRead(), topics...)
	return o.HaveTopics(ctx, needed)
}

func (s *Sink) patience() publisher.Patience {
	return publisher.Patience{Limit: TransactionsEnd(s.Config)}
}

// ReadAudit reads the installation's audit records since a time.
func (s *Sink) ReadAudit(ctx context.Context, since time.Time) ([]publisher.AuditRecord, error) {
	defer s.waits(ctx)()
	return publisher.ReadAudit(ctx, s.Kafka, s.Config.Topics.Audit, s.Config.Name, since, 0, s.patience())
}

// ReadDeadLetters reads the dead letters since a time.
func (s *Sink) ReadDeadLetters(ctx context.Context, since time.Time) ([]publisher.DeadLetter, error) {
	defer s.waits(ctx)()
	return publisher.ReadDeadLetters(ctx, s.Kafka, s.Config.Topics.DeadLetters, since, 0, s.patience())
}

// retriedLetters is the member of an audit record's details that names dead letters.
const retriedLetters = "letters"

// letterName is the place of a dead letter with its change's time: places alone begin anew in
// a topic that was made anew.
func letterName(place string, d *publisher.DeadLetter) string {
	return fmt.Sprintf("%s %d,%d", place, d.ClusterTime.T, d.ClusterTime.I)
}

// RetryRecord is the audit record of dead letters that are retried.
func (s *Sink) RetryRecord(actor, stream string, retried []publisher.DeadLetter) (kgo.Record, error) {
	var names []string
	for i := range retried {
		d := &retried[i]
		for _, place := range d.Places() { // the topic may forget the first one before the others
			names = append(names, letterName(place, d))
		}
	}
	return publisher.AuditRecord{
		Name: s.Config.Name, Stream: stream, Action: publisher.AuditRetried, Actor: actor, Details: map[string]any{retriedLetters: names},
	}.Kafka(s.Config.Topics.Audit)
}

// RetriedLetters tells which dead letters the audit topic says to have been retried.
func (s *Sink) RetriedLetters(ctx context.Context) (func(*publisher.DeadLetter) bool, error) {
	records, err := s.ReadAudit(ctx, time.Time{})
	if err != nil {
		return nil, err
	}
	return retriedIn(records), nil
}

// retriedIn tells which dead letters audit records say to have been retried.
func retriedIn(records []publisher.AuditRecord) func(*publisher.DeadLetter) bool {
	done := map[string]bool{}
	for _, r := range records {
		names, _ := r.Details[retriedLetters].([]any)
		for _, name := range names {
			if text, ok := name.(string); ok && r.Action == publisher.AuditRetried {
				done[text] = true
			}
		}
	}
	return func(d *publisher.DeadLetter) bool {
		return slices.ContainsFunc(d.Places(), func(place string) bool { return done[letterName(place, d)] })
	}
}
