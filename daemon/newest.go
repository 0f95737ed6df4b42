package daemon

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/publisher"
)

// Carried is an event that was committed: names and times, nothing of its contents.
type Carried struct {
	Stream       string      `json:"stream"`
	Kind         mapper.Kind `json:"kind"`
	Action       Action      `json:"action"`
	Namespace    string      `json:"namespace"`
	ResourceType string      `json:"resourceType"`
	// Document is the document's _id as dead letters have it, ID the event's own id.
	Document string `json:"document"`
	ID       string `json:"id,omitempty"`
	// Changed is the time of the change by MongoDB's clock, Committed that of the commit.
	Changed   time.Time `json:"changed"`
	Committed time.Time `json:"committed"`
}

const (
	// keptEvents is how many events a stream remembers.
	keptEvents = 50
	// maxKeptKey is the longest document key in bytes that is remembered.
	maxKeptKey = 1 << 10
)

// newest remembers a stream's last events. Its buffers are used again: a batch costs copies of
// a few bytes for its last events, and keeps nothing of the batch alive.
type newest struct {
	slots [keptEvents]keptEvent
	count uint64
}

type keptEvent struct {
	kind                 mapper.Kind
	action               Action
	database, collection string
	key, id              []byte
	wall                 int64
	committed            time.Time
}

// add remembers the last of the events that were committed at a time.
func (n *newest) add(events []mapper.Event, at time.Time) {
	for i := max(0, len(events)-keptEvents); i < len(events); i++ {
		e, s := &events[i], &n.slots[n.count%keptEvents]
		n.count++
		s.kind, s.action, s.database, s.collection = e.Kind, actionOf(e.Change.Operation), e.Change.Database, e.Change.Collection
		s.key, s.id = s.key[:0], append(s.id[:0], e.ID...)
		if len(e.Change.DocumentKey) <= maxKeptKey {
			s.key = append(s.key, e.Change.DocumentKey...)
		}
		s.wall, s.committed = e.Change.WallTime, at
	}
}

// list is what is remembered of a stream, the newest first.
func (n *newest) list(stream string) []Carried {
	var all []Carried
	for i := range min(n.count, keptEvents) {
		s := &n.slots[(n.count-1-i)%keptEvents]
		all = append(all, Carried{
			Stream: stream, Kind: s.kind, Action: s.action, Namespace: s.database + "." + s.collection, ResourceType: mapper.ResourceOf(s.collection),
			Document: publisher.DocumentID(bson.Raw(s.key)), ID: string(s.id), Changed: time.UnixMilli(s.wall).UTC(), Committed: s.committed.UTC(),
		})
	}
	return all
}

// Newest are the events that this process committed last, the newest first.
func (s *Stream) Newest() []Carried {
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	return s.progress.newest.list(s.opts.Name)
}
