package replay

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/mapper"
)

// backfillState is what is stored of a backfill, in the place of a resume token.
type backfillState struct {
	Step        string        `bson:"collection"`
	After       bson.RawValue `bson:"after,omitempty"`
	Scanned     int64         `bson:"scanned"`
	Events      int64         `bson:"events"`
	DeadLetters int64         `bson:"deadLetters"`
	Began       time.Time     `bson:"began"`
	Since       time.Time     `bson:"since"`
	Until       time.Time     `bson:"until"`
	Done        bool          `bson:"done"`
	// Counts are the events and dead letters by kind, resource type and topic.
	Counts []ReplayCount `bson:"counts"`
}

// count adds events and dead letters to the state's counts.
func (a *backfilling) count(out *mapper.Output) {
	for i := range out.Events {
		e := &out.Events[i]
		a.tally.of(e.Kind, e.Source, e.Topic).Events++
	}
	for i := range out.Failures {
		a.tally.of(out.Failures[i].Kind, out.Failures[i].Source, "").DeadLetters++
	}
	a.state.Counts = a.tally.sorted()
}

// writtenOf notes when a batch's versions were written, while events are named.
func (a *backfilling) writtenOf(changes []mapper.Change) {
	if len(a.result.First) == a.First {
		return
	}
	a.written = make(map[string]time.Time, len(changes))
	for i := range changes {
		if at, ok := changes[i].Written(); ok {
			a.written[string(changes[i].Source.DocumentKey)] = at
		}
	}
}
