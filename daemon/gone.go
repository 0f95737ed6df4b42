package daemon

import (
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/fhir-cdc/fhir-cdc/resumetoken"
)

// errGone says that what kept the stream's position has lost it while this process
// knew of one, as when the position topic was deleted. To begin as a new stream does
// would skip changes without a word.
var errGone = errors.New("the position that the stream had is no longer stored")

// Placed notes that another process has stored a position of the stream, and its
// cluster time; zero where that one is nothing to go on from, such as a position that
// has been handed over to other streams.
func (s *Stream) Placed(at bson.Timestamp) {
	if at.T > 0 {
		s.known.Store(&at)
	}
	s.progress.placed()
}

// Missing notes that no position of the stream is stored, although Placed has told of
// one: a stand-by that is to take over would have to wait as the owner does. why may be
// nil. It does nothing for a stream of which no position is known.
func (s *Stream) Missing(why error) {
	if err := s.gone(resumetoken.ErrNone); err != nil {
		if why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		s.progress.missing(err)
	}
}

// gone is errGone if the store has none of a stream that had a position, unless an
// operator has deleted it.
func (s *Stream) gone(none error) error {
	had := s.progress.snapshot().ClusterTime
	if known := s.known.Load(); known != nil && known.After(had) {
		had = *known
	}
	if had.T == 0 || errors.Is(none, resumetoken.ErrDeleted) {
		return nil
	}
	return fmt.Errorf("%w: it was at cluster time %d,%d (%s)", errGone, had.T, had.I, time.Unix(int64(had.T), 0).UTC().Format(time.RFC3339))
}
