package daemon

import "time"

// Patience is how long MongoDB may take to answer.
type Patience struct {
	// Read is how long it may wait for changes before it says that there are none.
	Read time.Duration
	// Facts is how long a batch may wait for facts that come late.
	Facts time.Duration
}

// Unanswered is for how long an answer of MongoDB has been due: since reading broke
// first, since a reading should have been answered, or since the facts of a batch should
// have been found. It is 0 while MongoDB answers, and while it is asked for nothing, as
// when reading waits for Kafka.
func (p *Progress) Unanswered(now time.Time) time.Duration {
	var due time.Duration
	if !p.Broken.IsZero() {
		due = now.Sub(p.Broken)
	}
	if p.State == Running {
		if !p.Mapping.IsZero() {
			due = max(due, now.Sub(p.Mapping)-p.Patience.Facts)
		}
		if !p.Blocked {
			due = max(due, now.Sub(later(p.Since, p.Read))-p.Patience.Read)
		}
	}
	return max(0, due)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
