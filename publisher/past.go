package publisher

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// ReadAudit reads the audit records of an installation since a time, the oldest first. Other
// records of the topic are left out. With newest above 0 it reads so many offsets at the end of
// each partition.
func ReadAudit(ctx context.Context, client []kgo.Opt, topic, name string, since time.Time, newest int64, patience Patience) ([]AuditRecord, error) {
	all := []AuditRecord{} // not nil: as JSON it is a list
	err := readPast(ctx, client, topic, since, newest, patience, func(r *kgo.Record) {
		var record AuditRecord
		if json.Unmarshal(r.Value, &record) == nil && record.Name == name {
			all = append(all, record)
		}
	})
	slices.SortStableFunc(all, func(a, b AuditRecord) int { return a.Time.Compare(b.Time) })
	return all, err
}

// DeadLetter is a change that could not become an event, as the dead-letter topic has it.
type DeadLetter struct {
	// Place is the partition and offset of its record, such as 0@12. Again are those of
	// further records of the same failure.
	Place string   `json:"place"`
	Again []string `json:"again,omitempty"`
	// Stored is the record's own time, of the latest one.
	Stored time.Time `json:"stored"`
	// Key names the document: "<database>.<collection>/<id>".
	Key string `json:"key"`
	deadLetterForm
}

// Places are the places of all its records.
func (d *DeadLetter) Places() []string { return append([]string{d.Place}, d.Again...) }

// At is the cluster time of the change.
func (d *DeadLetter) At() bson.Timestamp {
	return bson.Timestamp{T: d.ClusterTime.T, I: d.ClusterTime.I}
}

// Is tells whether the dead letter is of a kind's event of a change.
func (d *DeadLetter) Is(kind mapper.Kind, c *mapper.ChangeName) bool {
	if d.Kind != kind || d.At() != c.ClusterTime || d.Operation != c.Operation || d.Key != letterKey(c) {
		return false
	}
	_, value, err := deadLetter(&mapper.Failure{Kind: kind, Change: *c}, d.Stream)
	var form deadLetterForm
	if err != nil || json.Unmarshal(value, &form) != nil {
		return false
	}
	// A transaction may change a document twice at one time; tokens tell which.
	return len(d.ResumeToken) == 0 || len(form.ResumeToken) == 0 || bytes.Equal(d.ResumeToken, form.ResumeToken)
}

// ReadDeadLetters reads the dead letters since a time, in the order of their changes. Those of
// one event are one, with the latest reason: a retry under another limit, or another stream
// than before, may have stored it again. So all of the topic is read, or with newest above 0 so
// many offsets at the end of each partition.
func ReadDeadLetters(ctx context.Context, client []kgo.Opt, topic string, since time.Time, newest int64, patience Patience) ([]DeadLetter, error) {
	var all []DeadLetter
	known := map[string]int{}
	err := readPast(ctx, client, topic, time.Time{}, newest, patience, func(r *kgo.Record) {
		letter := DeadLetter{Place: fmt.Sprintf("%d@%d", r.Partition, r.Offset), Stored: r.Timestamp.UTC(), Key: string(r.Key)}
		if json.Unmarshal(r.Value, &letter.deadLetterForm) != nil || letter.Kind == "" || letter.ClusterTime.T == 0 {
			return // no record of ours
		}
		event := letter.deadLetterForm
		event.Reason, event.Stream = "", ""
		name, err := compactJSON(event)
		if err != nil {
			return // it has been JSON
		}
		i, again := known[string(name)]
		if !again {
			known[string(name)] = len(all)
			all = append(all, letter)
			return
		}
		letter.Place, letter.Again = all[i].Place, append(all[i].Again, letter.Place)
		all[i] = letter
	})
	all = slices.DeleteFunc(all, func(d DeadLetter) bool { return d.Stored.Before(since) })
	slices.SortStableFunc(all, func(a, b DeadLetter) int {
		return cmp.Or(a.At().Compare(b.At()), a.Stored.Compare(b.Stored))
	})
	return all, err
}

// readPast hands over the committed records of a topic since a time, up to its end, of newest
// offsets of each partition at most unless that is 0.
func readPast(ctx context.Context, client []kgo.Opt, topic string, since time.Time, newest int64, patience Patience, each func(*kgo.Record)) error {
	if since.IsZero() { // the brokers know no time before 1970
		since = time.UnixMilli(0)
	}
	reader, err := openTopics(ctx, client, []string{topic}, since, newest, patience)
	if err != nil {
		return err
	}
	defer reader.Close()
	return reader.Each(ctx, func(r *kgo.Record) error {
		each(r)
		return nil
	})
}
