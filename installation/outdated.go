package installation

import (
	"errors"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
)

// ErrOutdated says that a MongoDB client keeps to a replica set that is gone: a set of the
// same name has been initiated anew on its members. A client remembers the newest election
// that it has heard of and takes the primary of an earlier one for a stale one, for good.
var ErrOutdated = errors.New("a member of the replica set says that it is the primary, but the MongoDB client takes it for that of an earlier election: the set has been initiated anew")

// outdatedAfter is how long the client must take a member for stale: a primary that the others
// have given up calls itself primary for an election's time-out, 10 s. If
// settings.electionTimeoutMillis is longer, such a primary may be taken for a new set's while
// the client reaches no other. That costs only a reconnection: fhir-cdc reads what a majority
// has, and the new clients take the next primary, whose election is newer.
const outdatedAfter = 15 * time.Second

// kinds of members and sets, as the driver's events name them.
const (
	kindPrimary     = "RSPrimary"
	kindWithPrimary = "ReplicaSetWithPrimary"
	kindNoPrimary   = "ReplicaSetNoPrimary"
)

// outdated notices, by the answers to the driver's monitors, that a client is outdated.
type outdated struct {
	tell func()

	mu sync.Mutex
	// noPrimary says that the client knows of no primary of the set.
	noPrimary bool
	set       string
	// since is when a member has said first that it is the primary, zero while none does.
	since time.Time
}

// monitor calls tell when a client is outdated.
func monitor(tell func()) *event.ServerMonitor {
	o := &outdated{tell: tell}
	return &event.ServerMonitor{TopologyDescriptionChanged: o.changed, ServerHeartbeatSucceeded: o.answered}
}

func (o *outdated) changed(e *event.TopologyDescriptionChangedEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.noPrimary, o.set = e.NewDescription.Kind == kindNoPrimary, e.NewDescription.SetName
	if e.NewDescription.Kind == kindWithPrimary {
		o.since = time.Time{}
	}
}

func (o *outdated) answered(e *event.ServerHeartbeatSucceededEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case e.Reply.Kind != kindPrimary || !o.noPrimary || e.Reply.SetName != o.set:
	case o.since.IsZero():
		o.since = time.Now()
	case time.Since(o.since) > outdatedAfter:
		o.tell()
	}
}
