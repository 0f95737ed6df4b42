package daemon

import (
	"time"

	"github.com/fhir-cdc/fhir-cdc/publisher"
)

const (
	// restFactor is how many times as long as a commit the rest after it is: under a steady
	// load commits take a seventh of the time, unless the longest rest is shorter.
	restFactor = 6
	// enough is from how many changes on a batch does not wait for more: then its records cost
	// the brokers more than its transaction.
	enough = 1000
)

// next is the batch that is committed next. Until then, those that follow it join it.
type next struct{ *publisher.Batch }

// hasEvents tells whether there is more in it than a position.
func (n *next) hasEvents() bool {
	return n.Batch != nil && len(n.Events)+len(n.Failures) > 0
}

// hasRoom tells whether a batch may join it, with these bounds of a batch.
func (n *next) hasRoom(b *publisher.Batch, changes, bytes int) bool {
	return !n.hasEvents() || n.Changes+b.Changes <= changes && n.Bytes+b.Bytes <= bytes
}

// full tells whether it does not wait for more.
func (n *next) full(changes, bytes int) bool {
	return n.Changes >= min(changes, enough) || n.Bytes >= bytes
}

// add adds the batch that follows, which takes the place of a position alone.
func (n *next) add(b *publisher.Batch) {
	if !n.hasEvents() {
		n.Batch = b
		return
	}
	n.Events, n.Failures = append(n.Events, b.Events...), append(n.Failures, b.Failures...)
	n.Position, n.Changes, n.Bytes = b.Position, n.Changes+b.Changes, n.Bytes+b.Bytes
	if n.Read.IsZero() { // All of it has waited for its history until now.
		n.Read, n.Map, n.Mapped = b.Read, b.Map, b.Mapped
	}
}

// rest is how long the stream rests after a commit, at most a time.
func rest(commit, most time.Duration) time.Duration { return min(restFactor*commit, most) }
