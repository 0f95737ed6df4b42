package verify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// Result are the findings of a verification, in the form of its JSON output.
type Result struct {
	// Clean says that nothing is off, after the completion if there was one.
	Clean   bool           `json:"clean"`
	Streams []StreamResult `json:"streams"`
	Topics  []TopicResult  `json:"topics"`
	// The lists hold as many examples as were asked for; the counts of Topics are
	// complete.
	Missing    []MissingEvent  `json:"missing"`
	Duplicated []RepeatedEvent `json:"duplicated"`
	Unexpected []RecordPlace   `json:"unexpected"`
	OutOfOrder []Disorder      `json:"outOfOrder"`
	// Notes name the limits of the comparison: what could not be seen, and why.
	Notes []string `json:"notes"`
}

// StreamResult is the comparison of one stream.
type StreamResult struct {
	Stream string `json:"stream"`
	// Since and Until are the ends of the comparison, by the oplog's time. OplogSince
	// is where the reading of the oplog begins; before it the collections are read.
	Since      time.Time `json:"since"`
	OplogSince time.Time `json:"oplogSince"`
	Until      time.Time `json:"until"`
	// Changes were read of the oplog and Scanned versions of collections; DeadLetters of
	// them cannot be events.
	Changes     int64 `json:"changes"`
	Scanned     int64 `json:"scanned"`
	DeadLetters int64 `json:"deadLetters"`
}

// TopicResult are the counts of one topic.
type TopicResult struct {
	Topic string        `json:"topic"`
	Kinds []mapper.Kind `json:"kinds"`
	// Records were read; Expected is how many events must be there.
	Records  int64 `json:"records"`
	Expected int64 `json:"expected"`
	// Missing events are not there. Duplicated records repeat one that is. Unexpected records have
	// no event in MongoDB, or not the event's key. OutOfOrder events come before one of the same
	// key that was changed earlier.
	Missing int64 `json:"missing"`
	// Held events are there, behind a transaction that does not end, so that consumers
	// that read committed records do not get them yet. They may also be of a transaction
	// that was aborted; that is known once the open one has ended.
	Held       int64 `json:"held"`
	Duplicated int64 `json:"duplicated"`
	Unexpected int64 `json:"unexpected"`
	OutOfOrder int64 `json:"outOfOrder"`
	// Unseen records may be of versions that history has lost.
	Unseen int64 `json:"unseen"`
	// Completed of the missing events have been published.
	Completed int64 `json:"repaired"`
}

// off tells whether anything is wrong. Where an event may come twice by contract,
// repetitions are not.
func (t *TopicResult) off(repeats bool) bool {
	return t.Missing > t.Completed || t.Held > 0 || t.Unexpected > 0 || t.OutOfOrder > 0 || (t.Duplicated > 0 && !repeats)
}

// MissingEvent names an event that is not in its topic.
type MissingEvent struct {
	ID        string    `json:"id"`
	Topic     string    `json:"topic"`
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace"`
	Changed   time.Time `json:"changed"`

	topic uint8
}

// RecordPlace says where a record is, and nothing of its contents.
type RecordPlace struct {
	// ID is the event's; empty if the record has none.
	ID        string    `json:"id,omitempty"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Timestamp time.Time `json:"timestamp,omitzero"`
	// Reason says why a record is unexpected.
	Reason Reason `json:"reason,omitempty"`
	// KeyBytes is how long the key of a record without an event id is.
	KeyBytes int `json:"keyBytes,omitempty"`
}

// Reason is why a record is unexpected.
type Reason string

// The reasons. ReasonUnknown: MongoDB tells of no event with the record's id.
// ReasonOtherKey: it does, but the record's key is not that event's. ReasonNoID: neither
// the header ce_id nor the body has an id that an event could have.
const (
	ReasonUnknown  Reason = "unknown_id"
	ReasonOtherKey Reason = "other_key"
	ReasonNoID     Reason = "no_event_id"
)

// RepeatedEvent is an event with more records than it may have.
type RepeatedEvent struct {
	First RecordPlace   `json:"first"`
	Again []RecordPlace `json:"again"`
}

// Disorder is an event that comes before one of its key that was changed earlier.
type Disorder struct {
	ID    string      `json:"id"`
	Place RecordPlace `json:"place"`
	// After is the event that should have come before, and its offset.
	After       string `json:"after"`
	AfterOffset int64  `json:"afterOffset"`
}

// reporter gathers a Result.
type reporter struct {
	result Result
	limit  int
	// otherForms counts the records that have another profile than their events.
	otherForms map[otherForm]int
}

// otherForm are the records of a kind's events in a topic that do not have the profile of the
// configuration.
type otherForm struct {
	topic, kind string
	profile     mapper.Profile // of the configuration
}

func newReporter(topics []string, kinds map[string][]mapper.Kind, limit int) *reporter {
	r := &reporter{limit: limit, otherForms: map[otherForm]int{}, result: Result{
		Streams: []StreamResult{}, Missing: []MissingEvent{}, Duplicated: []RepeatedEvent{}, Unexpected: []RecordPlace{},
		OutOfOrder: []Disorder{}, Notes: []string{},
	}}
	for _, t := range topics {
		r.result.Topics = append(r.result.Topics, TopicResult{Topic: t, Kinds: kinds[t]})
	}
	return r
}

func example[T any](r *reporter, list *[]T, one T) {
	if len(*list) < r.limit {
		*list = append(*list, one)
	}
}

func (r *reporter) expected(topic uint8, n int) { r.result.Topics[topic].Expected += int64(n) }

func (r *reporter) held(topic uint8, n int) { r.result.Topics[topic].Held += int64(n) }

func (r *reporter) missing(e MissingEvent) {
	r.result.Topics[e.topic].Missing++
	example(r, &r.result.Missing, e)
}

func (r *reporter) duplicated(topic uint8, n int, first RecordPlace, again []RecordPlace) {
	r.result.Topics[topic].Duplicated += int64(n)
	example(r, &r.result.Duplicated, RepeatedEvent{first, again})
}

func (r *reporter) unexpected(topic uint8, n int64, p RecordPlace) {
	r.result.Topics[topic].Unexpected += n
	example(r, &r.result.Unexpected, p)
}

func (r *reporter) otherProfile(topic uint8, of eventOrigin, n int) {
	if n > 0 {
		r.otherForms[otherForm{r.result.Topics[topic].Topic, of.Kind, of.Profile}] += n
	}
}

// noteProfiles notes the records whose profile is not that of the configuration.
func (r *reporter) noteProfiles() {
	var notes []string
	for form, n := range r.otherForms {
		notes = append(notes, fmt.Sprintf("topic %s: %s of %s events without the profile %s, which events.%[3]s.profile asks for. By the ids alone they count as there",
			form.topic, terminal.Counted(int64(n), "record"), form.kind, form.profile))
	}
	slices.Sort(notes)
	r.result.Notes = append(r.result.Notes, notes...)
}

func (r *reporter) unseen(topic uint8, n int64) { r.result.Topics[topic].Unseen += n }

func (r *reporter) outOfOrder(topic uint8, d Disorder) {
	r.result.Topics[topic].OutOfOrder++
	example(r, &r.result.OutOfOrder, d)
}

func (r *reporter) note(text string) { r.result.Notes = append(r.result.Notes, text) }

func (r *reporter) noteOnce(text string) {
	if !slices.Contains(r.result.Notes, text) {
		r.note(text)
	}
}

// beyondCompletion notes the faults that a completion leaves as they are.
func (r *reporter) beyondCompletion(repeats bool) {
	var duplicated, unexpected, disorder int64
	for i := range r.result.Topics {
		t := &r.result.Topics[i]
		duplicated, unexpected, disorder = duplicated+t.Duplicated, unexpected+t.Unexpected, disorder+t.OutOfOrder
	}
	if repeats {
		duplicated = 0
	}
	if duplicated+unexpected+disorder > 0 {
		r.note(fmt.Sprintf("a repair publishes what is missing. It cannot move a record or take it out of a topic, so these stay: %d duplicated, %d unexpected, %d out of order. "+
			"Consumers drop repeated events by their ids, and compare meta.lastUpdated in MongoDB where the order of a key matters", duplicated, unexpected, disorder))
	}
}

// finish brings the result into an order that does not depend on ids, and says whether
// it is clean.
func (r *reporter) finish(repeats bool) *Result {
	r.result.Clean = !slices.ContainsFunc(r.result.Topics, func(t TopicResult) bool { return t.off(repeats) })
	slices.SortFunc(r.result.Missing, func(a, b MissingEvent) int {
		return cmp.Or(a.Changed.Compare(b.Changed), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(r.result.Unexpected, func(a, b RecordPlace) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return &r.result
}
