package daemon

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/lookup"
	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// Translation maps changes to events outside of a stream's loop, in the way of the
// loop: the same mapper, the same look-ups, one event for each $everything request
// however many changes tell of it. It is for one goroutine.
type Translation struct {
	mapper        *mapper.Mapper
	facts         Facts
	seen          *lookup.Seen
	maxEventBytes func(topic string) int
	// changes is used again for each call; events keep only what it points to.
	changes []mapper.Change
}

// NewTranslation returns a Translation that remembers up to seenRequests $everything
// requests. maxEventBytes is the largest mapper.Event.Size that a topic takes.
func NewTranslation(m *mapper.Mapper, facts Facts, seenRequests int, maxEventBytes func(topic string) int) *Translation {
	return &Translation{mapper: m, facts: facts, seen: lookup.NewSeen(seenRequests), maxEventBytes: maxEventBytes}
}

// Remember notes the $everything request that a change before the first Append tells
// of: it has had its event.
func (t *Translation) Remember(raw bson.Raw) {
	var c mapper.Change
	t.mapper.Read(raw, &c)
	if a, ok := c.Access(); ok {
		t.seen.Add(a.RequestID)
	}
}

// Append maps consecutive changes, and appends the events and what cannot be one to
// out. The changes must stay as they are while out is in use.
func (t *Translation) Append(ctx context.Context, raw []bson.Raw, out *mapper.Output) error {
	t.changes = slices.Grow(t.changes[:0], len(raw))[:len(raw)]
	for i := range raw {
		t.mapper.Read(raw[i], &t.changes[i])
	}
	return t.AppendChanges(ctx, t.changes, out)
}

// AppendChanges is Append for changes that have been read.
func (t *Translation) AppendChanges(ctx context.Context, changes []mapper.Change, out *mapper.Output) error {
	facts, err := t.facts.find(ctx, changes, t.seen)
	if err != nil {
		return refused(fmt.Errorf("look facts up: %w", err))
	}
	for i := range changes {
		if f := facts[i]; !f.repeated {
			from := len(out.Events)
			t.mapper.Append(&changes[i], f.Facts, out)
			tooLarge(t.maxEventBytes, from, out)
		}
	}
	return nil
}
