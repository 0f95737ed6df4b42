package publisher

import (
	"time"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// Batch is the unit of publishing: the events of consecutive changes of one
// stream, what could not be made an event, and the position after the last of
// these changes. It never ends inside the events of one change.
type Batch struct {
	Events   []mapper.Event
	Failures []mapper.Failure
	Position resumetoken.Position
	// Changes is how many changes were read for it.
	Changes int
	// Read is when the first of them was read, Map and Mapped when mapping began and
	// ended: times of this process's clock, for traces. They may be zero.
	Read, Map, Mapped time.Time
}
