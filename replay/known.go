package replay

import (
	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// known is a set of event ids, which are UUIDs: 30 to 40 bytes of memory for each.
type known map[uuid.UUID]struct{}

// add adds an id; what is no UUID is no id of an event made here.
func (k known) add(id string) {
	if u, err := uuid.Parse(id); err == nil {
		k[u] = struct{}{}
	}
}

func (k known) has(id string) bool {
	u, err := uuid.Parse(id)
	if err != nil {
		return false
	}
	_, ok := k[u]
	return ok
}

// drop removes the events that are known, and adds the others.
func (k known) drop(events []mapper.Event) []mapper.Event {
	kept := events[:0]
	for _, e := range events {
		if !k.has(e.ID) {
			k.add(e.ID)
			kept = append(kept, e)
		}
	}
	return kept
}

// missing leaves out the changes all of whose events are known. Those that have none,
// or cannot have one, are kept.
func (k known) missing(m *mapper.Mapper, changes []mapper.Change) []mapper.Change {
	kept := make([]mapper.Change, 0, len(changes))
	for i := range changes {
		// The ids do not depend on facts, which cost queries.
		var out mapper.Output
		m.Append(&changes[i], mapper.Facts{}, &out)
		wanted := len(out.Failures) > 0
		for _, e := range out.Events {
			wanted = wanted || !k.has(e.ID)
		}
		if wanted {
			kept = append(kept, changes[i])
		}
	}
	return kept
}
